# SPDX-License-Identifier: MIT
# A bad KMM_ setting gives exactly one line that names variable, value and what is accepted; the program runs on with
# the default. Every row of the table is tried, whatever rows there are.
set -eu
lib=$LIBKMM kmm=$LIBKMM_TOOL
failed=0

# The program's environment has only what a case says: not even what the test harness set.
run() {
	env -i PATH="$PATH" "$@" LD_PRELOAD="$lib" /bin/echo survived >"$TMPDIR/out" 2>"$TMPDIR/err" || {
		echo "$*: exit status $?"
		failed=1
	}
	[ "$(cat "$TMPDIR/out")" = survived ] || { echo "$*: the program did not do its work"; failed=1; }
}

# expect LINES TEXT... - so many lines on stderr, which contain each TEXT
expect() {
	[ "$(wc -l <"$TMPDIR/err")" -eq "$1" ] || {
		echo "$case: $1 lines expected on stderr, these came:"
		cat "$TMPDIR/err"
		failed=1
	}
	shift
	for text; do
		grep -qF -- "$text" "$TMPDIR/err" || {
			echo "$case: '$text' is missing in:"
			cat "$TMPDIR/err"
			failed=1
		}
	done
}

"$kmm" params --format=json | "$PYTHON3" -c '
import json, sys
for name, row in json.load(sys.stdin).items():
    print(name, row["default"] or "(unset)", row["accepted"], sep="\t")
' >"$TMPDIR/table"
[ -s "$TMPDIR/table" ] || { echo "kmm params shows no settings"; exit 1; }

tab=$(printf '\t')
tried=0
while IFS=$tab read -r name default accepted; do
	for value in '' rubbish -1 1x 99999999999999999999999 ' 1'; do
		case="$name='$value'"
		run "$name=$value"
		expect 1 "kmm: $name=$value is malformed: accepted is $accepted; the default $default holds"
		tried=$((tried + 1))
	done
done <"$TMPDIR/table"

case="a newline in a value"
run "KMM_PERCPU=a
b"
expect 1 "kmm: KMM_PERCPU=a?b is malformed"

case="a value of 100,000 bytes"
run "KMM_PERCPU=$(head -c 100000 /dev/zero | tr '\0' x)"
expect 1 "KMM_PERCPU=xxx" "accepted is auto|rseq|lock; the default auto holds"

case="an unknown name"
run KMM_FOO=bar
expect 1 "kmm: unknown setting KMM_FOO=bar; see kmm params"

case="a slip"
run KMM_DECAYMS=5
expect 1 "kmm: unknown setting KMM_DECAYMS=5, did you mean KMM_DECAY_MS?"

case="three at once"
run KMM_DECAY_MS=soon KMM_NOPE=1 KMM_STATS=loud
expect 3 KMM_DECAY_MS=soon KMM_NOPE=1 KMM_STATS=loud

case="stderr closed"
env -i PATH="$PATH" KMM_DECAY_MS=soon LD_PRELOAD="$lib" /bin/echo survived 2>&- >"$TMPDIR/out" || failed=1
[ "$(cat "$TMPDIR/out")" = survived ] || { echo "$case: the program did not do its work"; failed=1; }

case="nothing wrong"
run KMM_DECAY_MS=5 KMM_PERCPU=auto KMMX=1 XKMM_Y=1
expect 0

[ $failed = 0 ] || exit 1
echo "$tried malformed values of $(wc -l <"$TMPDIR/table") settings, each with its one line"
