#!/bin/sh
# A stand-in for glassbox-qemu --check: what has <bad/> is refused, what has <odd/> is left out, each at its line.
for last; do :; done
case " $* " in
*" --instance "*)
    file=$HOME/.config/glassbox/qemu/$last.xml
    [ -e "$file" ] || file=${file%@*}@.xml
    text=$(cat "$file") ;;
*" - "*) file='<stdin>' text=$(cat) ;;
*) file=$last text=$(cat "$file" 2>/dev/null) || { echo "glassbox-qemu: $file: not there" >&2; exit 3; } ;;
esac
printf '%s\n' "$text" | awk -v file="$file" '
    /<bad\/>/ { print file ":" NR ":1: /domain/bad: refused; remove it"; refused = 3 }
    /<odd\/>/ { print file ":" NR ":1: /domain/odd: left out; remove it" }
    END { exit refused }'
