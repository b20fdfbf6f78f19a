"""`python train.py model=lstm_midi data=mozart`: the story is in musegen/train.py."""

from musegen.train import main

if __name__ == "__main__":
    main()
