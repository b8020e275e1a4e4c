printf 'a\377\376b\300\200c\n'
