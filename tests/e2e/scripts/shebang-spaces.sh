#! /bin/sh
printf "with a space\n"
