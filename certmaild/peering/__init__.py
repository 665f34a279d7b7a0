"""Setting partners up and watching them: what they are told, whether they keep to the terms, and until when."""
