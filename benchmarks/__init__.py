"""What flowstore costs, measured beside bare `sqlite3` on the same disk.

``python -m benchmarks`` runs every group and writes ``benchmarks/RESULTS.md``.
"""
