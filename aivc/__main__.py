"""`python -m aivc` is `aivc`."""

from aivc.cli import main

if __name__ == "__main__":
    main(prog_name="aivc")
