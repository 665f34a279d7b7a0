"""Questions to DNS: a port for whoever asks, and a resolver with a cache that asks servers without a thread."""
