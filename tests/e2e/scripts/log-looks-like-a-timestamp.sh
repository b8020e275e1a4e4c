printf "2026-01-01T00:00:00.000000000Z stdout F fake\n2026-01-01T00:00:00Z {\"log\":1}\n"
