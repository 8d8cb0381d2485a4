#!/bin/sh
# Puts the gate's Markdown under a GitLab merge request: one note, which the next run replaces.
#
#   ci/note.sh FILE     in a job of a merge request; wants KERNELPROOF_TOKEN, a token that may write
set -eu
file=${1:?wanted the Markdown of kernelproof gate}
if [ ! -s "$file" ]; then
    echo "kernelproof: $file is not there: the gate did not get as far as a verdict; no note"
    exit 0
fi
mark='<!-- kernelproof gate -->'
notes="$CI_API_V4_URL/projects/$CI_PROJECT_ID/merge_requests/$CI_MERGE_REQUEST_IID/notes"
body=$(mktemp)
trap 'rm -f "$body"' EXIT
{ echo "$mark"; cat "$file"; } >"$body"
ask() { curl --silent --show-error --fail --header "PRIVATE-TOKEN: $KERNELPROOF_TOKEN" "$@"; }
own=$(ask "$notes?per_page=100&order_by=created_at&sort=asc" | python3 -c '
import json, sys
print(next((n["id"] for n in json.load(sys.stdin) if n["body"].startswith(sys.argv[1])), ""))
' "$mark")
if [ -n "$own" ]; then
    ask --request PUT --data-urlencode "body@$body" "$notes/$own" >/dev/null
else
    ask --request POST --data-urlencode "body@$body" "$notes" >/dev/null
fi
