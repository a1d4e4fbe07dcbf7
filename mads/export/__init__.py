"""What a selection becomes for others: the command, texts, Megatron tokens, parts."""
