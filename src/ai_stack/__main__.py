"""`python -m ai_stack` is the command `ai-stack`."""

from ai_stack.cli import main

if __name__ == "__main__":
    main()
