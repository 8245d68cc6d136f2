"""The content filter: words, expressions and runs that say what prompts and answers may not hold."""
