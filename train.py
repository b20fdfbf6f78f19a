"""`python train.py model=lstm_midi data=mozart`, the same as `musegen train …`."""

import sys

try:
    from musegen.cli.train import main
except KeyboardInterrupt:
    print("musegen: interrupted", file=sys.stderr)
    sys.exit(130)

if __name__ == "__main__":
    main()
