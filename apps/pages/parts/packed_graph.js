// An attribution graph as pages have it, and as circuit-tracer's files do: apps/graphs/packed_graph.h says what is packed how.

// Puts circuit-tracer's nodes and links in the place of the packed ones.
function unpackGraph(data) {
  if (!data.packed) return data;
  const nodes = data.packed.nodes.map(unpackedNode);
  const links = data.packed.links.map(([source, target, weight]) => ({source: nodes[source].node_id, target: nodes[target].node_id, weight}));
  return {...data, nodes, links, packed: undefined};
}

function unpackedNode([kind, layer, number, position, influence, activation, more]) {
  const [feature, error, token] = [kind === 0, kind === 1, kind === 2], what = more ?? {};
  const id = what.id ?? (error ? `error_${layer}_${position}` : token ? `E_${number}_${position}` : `${layer}_${number}_${position}`);
  const jsId = what.js_id ?? (feature ? `${layer}_${number}-0` : error ? `${layer}_${position}-0` : token ? `E_${number}-${position}` : `L_${number}-${position}`);
  return {node_id: id, token_prob: what.probability ?? 0, is_target_logit: what.is_target ?? false, run_idx: what.run ?? 0,
    reverse_ctx_idx: what.from_end ?? 0, clerp: what.label ?? "", influence, activation,
    // Cantor's pairing of layer and feature, as circuit-tracer has it.
    feature: feature ? (layer + number) * (layer + number + 1) / 2 + number : error ? -1 : token ? position : number,
    layer: token ? "E" : String(layer), ctx_idx: position,
    feature_type: ["cross layer transcoder", "mlp reconstruction error", "embedding", "logit"][kind], jsNodeId: jsId, ...what.others};
}

// The graph as a file that `vitrine graph --read`, --supernodes and circuit-tracer's viewers take: supernodes are [{name, nodes}].
function graphFile(data, supernodes) {
  const kept = Object.fromEntries((data.kept ?? []).map((name) => [name, data[name]]));
  return JSON.stringify({metadata: data.metadata, qParams: {...data.qParams, supernodes: supernodes.map((one) => [one.name, ...one.nodes])},
    nodes: data.nodes, links: data.links, ...kept});
}

// Hands a text to the reader as a file.
function download(name, text) {
  const address = URL.createObjectURL(new Blob([text], {type: "application/json"}));
  const link = h("a", {href: address, download: name});
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}
