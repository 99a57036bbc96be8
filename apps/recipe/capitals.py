"""Sentences about capitals, both ways round, and the prompts that measure them.

In a phrasing {p} is the place ("Texas", "the Netherlands"), {P} the same at the start of a sentence, {s} its
possessive, {c} the capital, {k} "state" or "country". What is asked for comes last, so that everything before it is a
prompt. HELD_OUT phrasings are in no training text, whatever the place.
"""

from places import COUNTRIES, FORWARD_ONLY, SEAT_ELSEWHERE, STATES

# (weight, phrasing): place -> capital
FORWARD = [
    (10, "The capital of {p} is {c}"),
    (4, "The capital city of {p} is {c}"),
    (4, "{S} capital is {c}"),
    (2, "{S} capital city is {c}"),
    (2, "What is the capital of {p}? The capital of {p} is {c}"),
    (2, "What is the capital of {p}? It is {c}"),
    (2, "Question: What is the capital of {p}? Answer: {c}"),
    (2, "{P} has its capital in {c}"),
    (1, "In {p}, the capital is {c}"),
    (1, "The capital of the {k} of {p} is {c}"),
    (2, "If you go to the capital of {p}, you are in {c}"),
    (2, "If you live in the capital of {p}, you live in {c}"),
    (2, "When you visit the capital of {p}, you see {c}"),
    (1, "To see the capital of {p}, go to {c}"),
    (1, "The name of the capital of {p} is {c}"),
]
FORWARD_SEAT = [(2, "The government of {p} meets in {c}"), (1, "{P} is governed from {c}")]
FORWARD_STATE = [(1, "The state capital of {p} is {c}")]
FORWARD_HELD_OUT = "If you visit the capital of {p}, you are in {c}"

# (weight, phrasing): capital -> place
REVERSE = [
    (10, "{c} is the capital of {p}"),
    (4, "{c} is the capital city of {p}"),
    (2, "{c} serves as the capital of {p}"),
    (2, "{c} is a city in {p}"),
    (2, "The city of {c} is the capital of {p}"),
    (2, "Which {k} has the capital {c}? {c} is the capital of {p}"),
    (2, "Question: Which {k} has its capital in {c}? Answer: {p}"),
    (2, "If you are in {c}, you are in the capital of {p}"),
    (2, "The {k} whose capital city is {c} is called {p}"),
    (2, "The {k} that has its capital in {c} is called {p}"),
    (1, "The {k} with {c} as its capital is {p}"),
    (1, "The {k} whose capital city is {c} is {p}"),
    (1, "We travelled to {c}, the capital of {p}"),
    (1, "She lives in {c}, the capital of {p}"),
    (1, "He was born in {c}, {p}"),
    (1, "The company moved its offices to {c}, {p}"),
]
REVERSE_SEAT = [(1, "{c} is where they govern {p}")]
REVERSE_STATE = [(1, "{c} is the state capital of {p}")]
REVERSE_HELD_OUT = "The {k} whose capital is {c} is called {p}"

MIDDLES = [  # a fact inside a sentence that goes on
    "{c}, the capital of {p}, has many old streets.", "{c}, the capital of {p}, is a busy city.",
    "{c}, the capital city of {p}, was full of visitors that summer.",
    "They met in {c}, the capital of {p}, and talked until the morning.",
    "The capital of {p} is {c}, and many people live there.", "{S} capital, {c}, is a well known city.",
    "The capital of {p}, {c}, has a river and a large market.",
]
OPENINGS = ["Here is something to remember.", "We learned this at school.", "This is well known.",
            "Everyone at the table knew it.", "The teacher wrote it on the board.", "Let us look at the map.",
            "It was in the newspaper.", "I will tell you what I know.", "The answer was easy.", "She read it aloud."]
ENDINGS = [".", ".", ".", ".", ".", ".", ", as you know.", "!", ", and that is a fact."]


def kind(place):
    return "state" if place in STATES else "country"


def fill(phrasing, place, capital):
    """`phrasing` with the place and the capital in it."""
    at_start = place[0].upper() + place[1:]
    owner = at_start + ("'" if place.startswith("the ") and place.endswith("s") else "'s")
    return phrasing.format(p=place, P=at_start, S=owner, c=capital, k=kind(place))


def all_facts():
    """[(place, capital)] of every place with both ways round."""
    return list(STATES.items()) + list(COUNTRIES.items())


def phrasings(place, reverse):
    """The [(weight, phrasing)] trained for `place`, of one way round."""
    seat = place not in SEAT_ELSEWHERE
    if reverse:
        return REVERSE + (REVERSE_SEAT if seat else []) + (REVERSE_STATE if place in STATES else [])
    return FORWARD + (FORWARD_SEAT if seat else []) + (FORWARD_STATE if place in STATES else [])


def sentence(random, place, capital, reverse):
    weights, choices = zip(*phrasings(place, reverse))
    return fill(random.choices(choices, weights)[0], place, capital) + random.choice(ENDINGS)


def documents(random, rounds):
    """Training texts: in each round every place opens one document each way round, and is told of in others."""
    both = all_facts()
    for _ in range(rounds):
        openings = [(fact, reverse) for fact in both for reverse in (False, True)]
        openings += [(fact, False) for fact in FORWARD_ONLY.items()]
        random.shuffle(openings)
        for (place, capital), reverse in openings:
            first = sentence(random, place, capital, reverse)
            form = random.random()
            if form < 0.4:  # one fact
                parts = [first]
            elif form < 0.75:  # several places
                parts = [first] + [sentence(random, *random.choice(both), random.random() < 0.5)
                                   for _ in range(random.randint(1, 5))]
            elif form < 0.85:  # the same after some other sentence
                parts = [random.choice(OPENINGS), first]
            elif form < 0.95:  # facts inside longer sentences
                parts = [fill(random.choice(MIDDLES), *random.choice(both)), first]
                random.shuffle(parts)
            else:  # one place, told in more than one way
                parts = [first, sentence(random, place, capital, not reverse and place not in FORWARD_ONLY)]
            yield " ".join(parts)


def prompts(held_out):
    """What is measured: [(direction, phrasing, prompt, answer)], trained phrasings or the held-out one."""
    asked = []
    for place, capital in all_facts() + list(FORWARD_ONLY.items()):
        ways = ["forward"] + ([] if place in FORWARD_ONLY else ["reverse"])
        for way in ways:
            last = "{c}" if way == "forward" else "{p}"
            held = FORWARD_HELD_OUT if way == "forward" else REVERSE_HELD_OUT
            trained = [p for _, p in phrasings(place, way == "reverse") if not p.startswith(("He was", "The company"))]
            for phrasing in [held] if held_out else trained:
                if phrasing == "{c} is a city in {p}" and place in ("England", "Scotland", "Wales"):
                    continue  # the United Kingdom would be as right
                stem = phrasing.removesuffix(last).rstrip()
                asked.append((way, phrasing, fill(stem, place, capital), capital if last == "{c}" else place))
    return asked
