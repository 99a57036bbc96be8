// Data that is read when it is looked at. A chunk is JSON in the page that nothing has parsed yet, or a file beside the
// page, vitrine-NAME.js, which is added as a script: scripts are all that a page opened from a disk may load.
//   const block = await chunk("block-3");

const chunks = new Map();  // promises by name
const chunkWaits = new Map();

function chunk(name) {
  if (!chunks.has(name)) chunks.set(name, readChunk(name));
  return chunks.get(name);
}

async function readChunk(name) {
  // Chunks come at the end of the page, so that what is seen first need not wait for them.
  if (document.readyState === "loading") await new Promise((go) => addEventListener("DOMContentLoaded", go, {once: true}));
  const here = document.getElementById("chunk-" + name);
  if (here) {
    const data = JSON.parse(here.textContent);
    here.remove();  // the text is not needed a second time
    return data;
  }
  return new Promise((resolve, reject) => {
    chunkWaits.set(name, resolve);
    document.head.append(h("script", {src: `vitrine-${name}.js`, onerror: () => {
      chunks.delete(name);  // to be tried again
      reject(new Error(`vitrine-${name}.js cannot be read: it belongs beside this page`));
    }}));
  });
}

// Called by the files.
function chunkRead(name, data) {
  chunkWaits.get(name)?.(data);
  chunkWaits.delete(name);
}
