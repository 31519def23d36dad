#!/bin/bash
# SPDX-License-Identifier: MIT
# timeout: 300
# modes: auto lock
# git makes, clones, repacks (with threads) and checks a repository; hashes and logs are compared.
. "$(dirname "$0")/lib.sh"
need git
export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null HOME=$tmp GIT_TERMINAL_PROMPT=0
commits=$(long && echo 3000 || echo 400)

# A fast-import stream: each commit rewrites one of 60 files of growing text.
history() {
	awk -v n="$commits" 'BEGIN {
		srand(42)
		for (c = 1; c <= n; c++) {
			f = int(rand() * 60); text = ""
			for (l = 0; l < 40 + c % 90; l++)
				text = text sprintf("line %d of file %d, value %d\n", l, f, int(rand() * (l < 30 ? 3 : 100000)))
			printf "commit refs/heads/main\nmark :%d\ncommitter A U Thor <a@example.org> %d +0000\ndata <<X\nchange %d\nX\n", \
				c, 1700000000 + c * 60, c
			printf "M 100644 inline dir%d/file%d\ndata %d\n%s\n", f % 7, f, length(text), text
		}
	}'
}
history >"$tmp/stream"

work() {
	git init -q -b main repo && git -C repo fast-import --quiet <"$tmp/stream" && git -C repo reset -q --hard &&
		git clone -q --no-local repo clone && cd clone || return 1
	git -c user.name=a -c user.email=a@example.org commit -q --allow-empty -m local --date=2024-01-01T00:00:00Z
	git fsck --full --strict || return 1
	git -c pack.threads=4 repack -q -a -d -f --depth=50 --window=20 && git gc -q --aggressive --prune=now || return 1
	git fsck --full && git rev-parse HEAD^ 'HEAD^{tree}' && git log -p --stat HEAD^ | sha256sum
	git grep -c value HEAD^ -- dir3 | sort
	git blame -s "HEAD^" -- "$(git ls-files | sed -n 5p)" | sha256sum
	git archive HEAD^ | sha256sum && git status --short && git count-objects -v | grep -E '^(count|in-pack)'
}
same repository work
finish
