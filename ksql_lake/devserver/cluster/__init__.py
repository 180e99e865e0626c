"""Several nodes of one service: a broker that keeps the shared truth, and node processes that follow it.

`broker` orders statements and rows and assigns partitions, `membership` is a node's side of it, `routing` says
which node reads what, `forwarding` fetches the rows of other nodes, `processes` starts, stops and pauses nodes.
"""
