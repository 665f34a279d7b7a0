"""Mail on its way out: where it goes, what the next server must prove, and the queue that keeps what must wait."""
