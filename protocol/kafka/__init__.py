"""A topic of Kafka's as a stream: the reader behind `kafka://`, and what a sink shares with it."""
