"""`python train.py model=lstm_midi data=mozart`: the story is in musegen/train.py."""

import sys

try:
    from musegen.train import main
except KeyboardInterrupt:
    print("musegen: interrupted", file=sys.stderr)
    sys.exit(130)

if __name__ == "__main__":
    main()
