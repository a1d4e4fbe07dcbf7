"""What a model is worth: losses on tasks, and the truth that rewards are judged by."""
