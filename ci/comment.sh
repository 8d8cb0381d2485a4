#!/bin/sh
# Puts the gate's Markdown under a pull request: one comment, which the next run replaces.
#
#   ci/comment.sh FILE NUMBER     wants gh with a token (GH_TOKEN) and GITHUB_REPOSITORY
set -eu
file=${1:?wanted the Markdown of kernelproof gate} number=${2:?wanted the number of a pull request}
if [ ! -s "$file" ]; then
    echo "kernelproof: $file is not there: the gate did not get as far as a verdict; no comment"
    exit 0
fi
mark='<!-- kernelproof gate -->'
body=$(mktemp)
trap 'rm -f "$body"' EXIT
{ echo "$mark"; cat "$file"; } >"$body"
comments="repos/$GITHUB_REPOSITORY/issues/$number/comments"
own=$(gh api --paginate "$comments" --jq ".[] | select(.body | startswith(\"$mark\")) | .id" | head -n 1)
if [ -n "$own" ]; then
    gh api --silent --method PATCH "repos/$GITHUB_REPOSITORY/issues/comments/$own" --field "body=@$body"
else
    gh api --silent --method POST "$comments" --field "body=@$body"
fi
