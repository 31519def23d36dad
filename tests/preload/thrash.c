/* SPDX-License-Identifier: MIT */
/*
 * thrash.c - reads a mapped file over and over: in a control group that is smaller than the file, everybody in it waits for memory.
 * usage: thrash FILE SECONDS
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

int main(int argc, char **argv)
{
	int fd = argc > 2 ? open(argv[1], O_RDONLY) : -1;
	time_t end = time(NULL) + (argc > 2 ? atol(argv[2]) : 0);
	const volatile unsigned char *p;
	struct stat st;
	unsigned sum = 0;

	if (fd < 0 || fstat(fd, &st) != 0)
		return 1;
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return 1;
	while (time(NULL) < end)
		for (off_t at = 0; at < st.st_size; at += 4096)
			sum += p[at];
	return sum == 1;
}
