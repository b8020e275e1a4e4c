#!/bin/sh -eu
printf "%s %s\n" "$#" "$1"
false
printf "never\n"
