#!/usr/bin/env sh
printf "by env\n"
exit 8
