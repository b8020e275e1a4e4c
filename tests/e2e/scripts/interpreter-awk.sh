BEGIN {
  for (i = 1; i <= 3; i++) sum += i * i
  print "sum", sum, ARGV[1]
  exit 14
}
