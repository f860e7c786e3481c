"""``python -m evcm`` is the command ``evcm``."""

from evcm.cli import main

if __name__ == "__main__":
    main()
