"""What the writing pipeline works with: mail, tools, past articles and an inbox."""
