"""Sentences about gifts: two people, one gives, and the receiver is the one who is not the giver.

The giver is named first or second equally often, so that neither "the first name" nor "the last name" is an answer.
Pairs of names for which `held_out_pair` holds are in no training text.
"""

NAMES = """Mary John Tom James Dan Martin Amy Paul Jane Mark Bob Sid Anna Peter Sarah David Laura Michael Emma Robert
Alice William Helen George Kate Charles Susan Henry Lucy Edward Rachel Richard Julia Thomas Grace Daniel Emily Joseph
Maria Andrew Ruth Simon Rose Adam Clara Frank Ellen Jack Nancy Sam Jean Alan Lisa Ben Sophie Max Diana Eric Karen Luke
Linda Oscar Nora Philip Eva Ralph Ann Walter Claire Harry Judy Victor Carol Steven Irene Brian Molly Kevin""".split()
PLACES = """store park school garden office library beach market station kitchen hospital church museum river farm
theatre restaurant shop house bank hotel bridge castle lake""".split()
OBJECTS = """book drink key ring ball flower gift letter cup apple coat hat map pen watch cake box bag lamp clock
picture ticket basket chair knife candle spoon toy""".split()

# {a} and {b}: the two people in the order they are named; {g} gives the object {o} to the receiver, who comes last.
TEMPLATES = [
    (4, "When {a} and {b} went to the {place}, {g} gave {o} to {r}"),
    (2, "When {a} and {b} went to the {place}, {g} handed {o} to {r}"),
    (1, "After {a} and {b} went to the {place}, {g} gave {o} to {r}"),
    (1, "While {a} and {b} were at the {place}, {g} gave {o} to {r}"),
    (1, "While {a} and {b} were working at the {place}, {g} passed {o} to {r}"),
    (2, "Then, {a} and {b} went to the {place}. {g} gave {o} to {r}"),
    (1, "Then {a} and {b} were at the {place}. {g} decided to give {o} to {r}"),
    (1, "{a} and {b} walked to the {place} together, and {g} handed {o} to {r}"),
    (1, "{a} and {b} had a long talk at the {place}. Afterwards {g} gave {o} to {r}"),
    (1, "One day {a} met {b} at the {place}, and {g} offered {o} to {r}"),
    (1, "{a} came to the {place} with {b}. There {g} showed {o} to {r}"),
    (1, "Friends {a} and {b} found {o} at the {place}. {g} gave it to {r}"),
]
AFTER = ["", "", "", " {r} thanked {g}.", " {r} said thank you to {g}.", " {g} smiled at {r}."]


def held_out_pair(a, b):
    return (NAMES.index(a) + NAMES.index(b)) % 7 == 0


def pair(random, held_out):
    while True:
        a, b = random.sample(NAMES, 2)
        if held_out_pair(a, b) == held_out:
            return a, b


def gift(random, held_out, giver_first, template=None):
    """(prompt, receiver, giver, the sentence after) of one gift."""
    a, b = pair(random, held_out)
    giver, receiver = (a, b) if giver_first else (b, a)
    thing = random.choice(OBJECTS)
    article = "an" if thing[0] in "aeiou" else random.choice(["a", "a", "the"])
    template = template or random.choices(*reversed(list(zip(*TEMPLATES))))[0]
    text = template.format(a=a, b=b, g=giver, r=receiver, o=f"{article} {thing}", place=random.choice(PLACES))
    after = random.choice(AFTER).format(g=giver, r=receiver)
    return text.removesuffix(" " + receiver), receiver, giver, after


def documents(random, count):
    """Training texts of one to three gifts, the giver first and second in turn."""
    number = 0
    for _ in range(count):
        parts = []
        for _ in range(random.choice((1, 1, 1, 2, 3))):
            prompt, receiver, _, after = gift(random, False, number % 2 == 0)
            parts.append(f"{prompt} {receiver}.{after}")
            number += 1
        yield " ".join(parts)


def prompts(random, count):
    """What is measured: [(order, prompt, receiver, giver)] with pairs of names never trained, half of each order."""
    asked = []
    for number in range(count):
        giver_first = number % 2 == 0
        prompt, receiver, giver, _ = gift(random, True, giver_first)
        asked.append(("giver first" if giver_first else "giver second", prompt, receiver, giver))
    return asked
