#!/bin/bash
# The textfile has to be readable for the user of node-exporter, and never half
# Report: ndemarco/zpbs-backup#6, prometheus/client_golang#489
. "$(dirname "$0")/lib.sh"
echo x >s/f; mkdir tf; config '"metrics":{"textfile":"tf/x.prom"}'; umask 077; once
[ "$(stat -c %a tf/x.prom)" = 644 ] && [ "$(ls -A tf | wc -l)" = 1 ] && right "0644, nothing left beside it"
wrong "mode $(stat -c %a tf/x.prom), $(ls -A tf | wc -l) files"
