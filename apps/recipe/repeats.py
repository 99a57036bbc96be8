"""Texts in which something comes again, for induction: the next word is the one that followed last time."""

from gifts import NAMES, OBJECTS, PLACES

COLOURS = "red blue green black white yellow brown grey old new small large round long wooden silver".split()
SYLLABLES = [c + v for c in ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "sh", "tr", "st")
             for v in ("a", "e", "i", "o", "u", "an", "er", "on")]


def word_list(random, words):
    """Random words two or three times over, in one of several layouts."""
    chosen = [random.choice(words) for _ in range(random.randint(4, 40))]
    between = random.choice([" ", " ", " ", ", ", "; ", " - ", "\n"])
    again = random.choice([between, between, ".\n", "\n\n"]) if between != "\n" else "\n"
    return again.join([between.join(chosen)] * random.choice((2, 2, 2, 3)))


def strange_words(random, _):
    """The same with words that are none."""
    made = ["".join(random.choices(SYLLABLES, k=random.randint(1, 4))) for _ in range(200)]
    return word_list(random, made)


def pairs_again(random, words):
    """Names and numbers, or words and words; then some of them in another order."""
    keys = random.sample(NAMES if random.random() < 0.5 else words, random.randint(3, 10))
    numbers = random.random() < 0.6
    values = [str(random.randint(0, 999)) if numbers else random.choice(words) for _ in keys]
    mark, between = random.choice([": ", " = ", " - ", " has "]), random.choice([". ", ", ", "\n", "; "])
    lines = [f"{key}{mark}{value}" for key, value in zip(keys, values)]
    again = random.sample(lines, len(lines)) if random.random() < 0.7 else lines
    return between.join(lines + again)


def question_again(random, _):
    """Facts made up on the spot, then asked for."""
    things = random.sample([f"{colour} {thing}" for colour in COLOURS for thing in OBJECTS], random.randint(2, 5))
    values = ([f"in the {place}" for place in random.sample(PLACES, len(things))] if random.random() < 0.5 else
              [str(random.randint(10, 9999)) for _ in things])
    told = [f"The {thing} is {value}." if value.startswith("in") else f"The number of the {thing} is {value}."
            for thing, value in zip(things, values)]
    asked = random.sample(told, random.randint(1, len(told)))
    return " ".join(told + [random.choice(["Again: ", "Remember: ", ""]) + line for line in asked])


def said_twice(random, sentences):
    """One to three sentences of prose, said again."""
    start = random.randrange(len(sentences) - 3)
    text = " ".join(sentences[start : start + random.randint(1, 3)])
    return text + random.choice([" ", "\n", " "]) + text


def documents(random, count, prose):
    """Training texts; `prose` (a list of texts) gives words and sentences."""
    sentences = [s.strip() + "." for text in prose for s in text.replace("\n", " ").split(". ") if 30 < len(s) < 250]
    words = sorted({w for text in prose for w in text.split() if w.isalpha() and len(w) > 1})
    for _ in range(count):
        form = random.choices((word_list, strange_words, pairs_again, question_again, said_twice), (4, 2, 2, 1, 2))[0]
        yield form(random, sentences if form is said_twice else words)


def token_lines(random, count, vocabulary, length, lead):
    """Token ids, uniform over 1..vocabulary-1: up to `lead` that do not matter, then some (how many: the range `length`)
    and the same again. The lead keeps the distance between the two from being all there is to know."""
    for _ in range(count):
        before = [random.randrange(1, vocabulary) for _ in range(random.randint(0, lead))]
        yield before + [random.randrange(1, vocabulary) for _ in range(random.randint(*length))] * 2
