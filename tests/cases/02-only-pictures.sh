#!/bin/bash
# The usual way to write "only pictures" in gitignore patterns: everything out, folders in, *.jpg in
# Report: syncthing/syncthing#1678, mherrmann/gitignore_parser#36
. "$(dirname "$0")/lib.sh"
mkdir -p s/2024/may s/cache; echo p >s/2024/may/a.jpg; echo r >s/2024/may/a.raw; echo t >s/top.jpg; echo k >s/cache/keep.txt
config '"exclude":["*","!*/","!*.jpg"]'; once
[ -e m/2024/may/a.jpg ] || wrong "exclude [*, !*/, !*.jpg]: exit $code, but 2024/may/a.jpg is not in the mirror (git takes it in)"
[ -e m/2024/may/a.raw ] && wrong "a.raw was copied"
rm -rf m; mkdir m; config '"exclude":["cache/**","!cache/keep.txt"]'; once
[ -e m/cache/keep.txt ] || wrong "exclude [cache/**, !cache/keep.txt]: exit $code, but cache/keep.txt is not in the mirror (git takes it in)"
right "as git does"
