"""The `musegen` command and its subcommands, one module each."""
