"""Cases as durable workflows: one worker process drives stage children; the case folder is the truth, the tables hold digests."""
