"""`python train.py model=lstm_midi data=mozart`, the same as `musegen train …`."""

from musegen.cli.main import one_line_interrupts

with one_line_interrupts():
    from musegen.cli.train import main

if __name__ == "__main__":
    main()
