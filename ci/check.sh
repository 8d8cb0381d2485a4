#!/bin/sh
# What the CI recipes run: the suite, then the gate against the base of the change.
#
#   KERNELPROOF_TARGETS         files or modules, separated by spaces (wanted)
#   KERNELPROOF_TEST_ARGUMENTS  more words for `kernelproof test`, as --tier smoke
#   KERNELPROOF_GATE_ARGUMENTS  more words for `kernelproof gate`, as --budget 3%
#   KERNELPROOF_BASE            the revision to compare with; where it is empty, what the CI says
#   KERNELPROOF_STORE           folder of the history (.kernelproof)
#   KERNELPROOF_OUT             folder for run.json, run.xml, gate.json, gate.md (kernelproof-out)
#
# Exit code: that of the suite if it is not 0, else that of the gate.
set -u
targets=${KERNELPROOF_TARGETS:?wanted files or modules of kernels, as kernels/flash.py}
store=${KERNELPROOF_STORE:-.kernelproof}
out=${KERNELPROOF_OUT:-kernelproof-out}
mkdir -p "$out" "$store" || exit 9
# reports are no part of what is compared
[ -e "$out/.gitignore" ] || echo "*" >"$out/.gitignore" || exit 9

# Words are split on purpose: several targets, several options.
# shellcheck disable=SC2086
kernelproof test $targets ${KERNELPROOF_TEST_ARGUMENTS:-} \
    --json "$out/run.json" --junitxml "$out/run.xml"
tested=$?

base=${KERNELPROOF_BASE:-}
if [ -z "$base" ] && [ "${GITHUB_EVENT_NAME:-}" = pull_request ]; then
    git rev-parse --quiet --verify "HEAD^1" >/dev/null || git fetch --quiet --deepen=1 origin
    if git rev-parse --quiet --verify "HEAD^2" >/dev/null; then
        # what is checked out is the merge of the change into its base, which is the first parent
        base=$(git rev-parse --verify "HEAD^1")
    else
        # the change itself: it left its base where their histories meet, however long ago
        git fetch --quiet --unshallow origin 2>/dev/null || true
        git fetch --quiet origin "${GITHUB_BASE_REF:?wanted the branch that the change is for}" || exit 9
        base=$(git merge-base FETCH_HEAD HEAD) || exit 9
    fi
elif [ -z "$base" ]; then
    base=${CI_MERGE_REQUEST_DIFF_BASE_SHA:-}
fi
case $base in
    "" | 0000000000000000000000000000000000000000)
        echo "kernelproof: no base to compare with: the gate is for changes, or name KERNELPROOF_BASE"
        exit $tested
        ;;
esac
# a shallow clone has no commit but its own
git cat-file -e "$base^{commit}" 2>/dev/null || git fetch --quiet --depth=1 origin "$base" || exit 9

# shellcheck disable=SC2086
kernelproof gate $targets --base "$base" --store "$store" ${KERNELPROOF_GATE_ARGUMENTS:-} \
    --json "$out/gate.json" --markdown "$out/gate.md"
gated=$?

[ $tested -ne 0 ] && exit $tested
exit $gated
