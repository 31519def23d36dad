// SPDX-License-Identifier: MIT
/*
 * exec_file.c - what execve(2) and the dynamic loader would do with a file, found out beforehand.
 *
 * Purpose. A preloaded library is ignored without a word by static programs, by programs that gain privileges, and
 * by programs that bring a malloc of their own. kmm run says so instead of running them on another allocator.
 *
 * Only files of this machine's own class and byte order are read further than their ELF header.
 */
#include "kmm.h"
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

/* A file in memory: every access goes through at(), so a truncated file cannot lead astray. */
struct image {
	const char *base;
	size_t size;
};

static const void *at(const struct image *img, u64 offset, u64 size)
{
	return offset <= img->size && size <= img->size - offset ? img->base + offset : NULL;
}

/* Copies out, since nothing says that a broken file's tables are aligned. */
static bool copy_at(const struct image *img, u64 offset, void *to, size_t size)
{
	const void *from = at(img, offset, size);

	if (from)
		memcpy(to, from, size);
	return from != NULL;
}

static void read_interp(const struct image *img, const ElfW(Ehdr) *ehdr, struct exec_file *f)
{
	ElfW(Phdr) ph;
	unsigned i;

	for (i = 0; i < ehdr->e_phnum; i++) {
		if (!copy_at(img, ehdr->e_phoff + (u64)i * ehdr->e_phentsize, &ph, sizeof(ph)))
			return;
		if (ph.p_type != PT_INTERP || ph.p_filesz >= sizeof(f->interp))
			continue;
		if (copy_at(img, ph.p_offset, f->interp, ph.p_filesz))
			f->interp[ph.p_filesz] = '\0';
	}
}

static bool is_malloc(const struct image *img, const ElfW(Shdr) *strings, const ElfW(Sym) *sym)
{
	static const char name[] = "malloc";
	const char *s;

	if (sym->st_shndx == SHN_UNDEF || ELF64_ST_BIND(sym->st_info) == STB_LOCAL)
		return false;
	s = at(img, strings->sh_offset + sym->st_name, sizeof(name));
	return s && !memcmp(s, name, sizeof(name));
}

static bool table_has_malloc(const struct image *img, const ElfW(Shdr) *symbols, const ElfW(Shdr) *strings)
{
	ElfW(Sym) sym;
	u64 i;

	for (i = 0; i < symbols->sh_size / sizeof(sym); i++) {
		if (!copy_at(img, symbols->sh_offset + i * sizeof(sym), &sym, sizeof(sym)))
			return false;
		if (is_malloc(img, strings, &sym))
			return true;
	}
	return false;
}

/* Looks through .dynsym by the section headers; a file without them is taken to define nothing. */
static bool defines_malloc(const struct image *img, const ElfW(Ehdr) *ehdr)
{
	ElfW(Shdr) sh, strings;
	unsigned i;

	for (i = 0; i < ehdr->e_shnum; i++) {
		if (!copy_at(img, ehdr->e_shoff + (u64)i * ehdr->e_shentsize, &sh, sizeof(sh)))
			return false;
		if (sh.sh_type != SHT_DYNSYM)
			continue;
		if (copy_at(img, ehdr->e_shoff + (u64)sh.sh_link * ehdr->e_shentsize, &strings, sizeof(strings)) &&
		    table_has_malloc(img, &sh, &strings))
			return true;
	}
	return false;
}

static int read_elf(const struct image *img, struct exec_file *f)
{
	const unsigned own_class = sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32;
	const unsigned own_data = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? ELFDATA2LSB : ELFDATA2MSB;
	ElfW(Ehdr) ehdr;

	if (!copy_at(img, 0, &ehdr, sizeof(ehdr)))
		return -ENOEXEC;
	f->kind = EXEC_ELF;
	f->elf_class = ehdr.e_ident[EI_CLASS];
	f->machine = ehdr.e_machine;		/* at the same place in both classes */
	if (ehdr.e_ident[EI_DATA] != own_data) {
		f->machine = (f->machine & 0xff) << 8 | f->machine >> 8;
		return 0;
	}
	if (f->elf_class != own_class)
		return 0;
	if (ehdr.e_type != ET_EXEC && ehdr.e_type != ET_DYN)
		return -ENOEXEC;
	read_interp(img, &ehdr, f);
	f->own_malloc = defines_malloc(img, &ehdr);
	return 0;
}

/* "#! /usr/bin/perl -w": the first word after the marker, as the kernel reads it. */
static int read_script(const struct image *img, struct exec_file *f)
{
	const char *s = img->base + 2, *end = img->base + min(img->size, (size_t)256);
	size_t len = 0;

	f->kind = EXEC_SCRIPT;
	while (s < end && (*s == ' ' || *s == '\t'))
		s++;
	while (s < end && !strchr(" \t\n", *s))
		f->interp[len++] = *s++;
	f->interp[len] = '\0';
	return len ? 0 : -ENOEXEC;
}

int read_exec_file(const char *path, struct exec_file *f)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), err = 0;
	struct image img;
	struct stat st;

	memset(f, 0, sizeof(*f));
	f->kind = EXEC_UNREADABLE;
	if (fd < 0)
		return errno == EACCES || errno == EPERM ? 0 : -errno;
	if (fstat(fd, &st)) {
		err = -errno;
		close(fd);
		return err;
	}
	f->kind = EXEC_OTHER;
	img.size = (size_t)st.st_size;
	img.base = img.size < 4 ? MAP_FAILED : mmap(NULL, img.size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (img.base == MAP_FAILED)
		return 0;
	if (!memcmp(img.base, ELFMAG, SELFMAG))
		err = read_elf(&img, f);
	else if (!memcmp(img.base, "#!", 2))
		err = read_script(&img, f);
	munmap((void *)img.base, img.size);
	return err;
}

/* Privileges are gained only where the kernel would honour the bits: not under nosuid, not with no_new_privs. */
const char *secure_exec_reason(const char *path)
{
	struct statvfs fs;
	struct stat st;

	if (stat(path, &st) || (!statvfs(path, &fs) && (fs.f_flag & ST_NOSUID)) ||
	    prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1)
		return NULL;
	if ((st.st_mode & S_ISUID) && st.st_uid != getuid())
		return "set-user-ID";
	if ((st.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && st.st_gid != getgid())
		return "set-group-ID";
	if (getuid() != 0 && getxattr(path, "security.capability", NULL, 0) > 0)
		return "a holder of file capabilities";
	return NULL;
}
