"""`python -m vitrine`, and the command `vitrine`: the program, with all its verbs."""

import sys


def main():
    from . import _vitrine

    sys.stdout.flush()
    sys.exit(_vitrine.main(sys.argv[1:]))


if __name__ == "__main__":
    main()
