/* SPDX-License-Identifier: MIT */
/*
 * cxx_runtime.c - finding the C++ runtime that belongs to a caller.
 *
 * Purpose: a failed operator new must call the new_handler and throw std::bad_alloc, and only the C++ runtime can
 * do that. libkmm is not linked to one. A weak reference is bound when the program starts, so it stays NULL when
 * libstdc++ comes later with a plugin; dlsym(RTLD_DEFAULT) does not see what came by dlopen(RTLD_LOCAL); dlopen()
 * allocates, and memory has just run out. So this file reads the loaded objects' symbol tables itself.
 *
 * Objects: each loaded object has a dynamic section; its entries lead to
 *
 *	DT_SONAME, DT_NEEDED	its name, and the names of what it was linked to
 *	DT_GNU_HASH		bloom filter | buckets | chains: hash of a name -> index of its symbol
 *	DT_SYMTAB, DT_STRTAB	the symbols
 *
 * A process may hold several runtimes (libstdc++ and libc++, or one linked statically into a plugin), each with
 * exceptions and handlers of its own, so the order of search is: the object of the caller, what that object was
 * linked to, any object.
 *
 * Invariants: only an object that also defines std::get_new_handler or std::__throw_bad_alloc is taken for a C++
 * runtime: other allocators define operator new as well, and would hand out memory that is not ours.
 *
 * Locks: dl_iterate_phdr() holds the dynamic linker's lock, which is recursive.
 */
#include "api/cxx_runtime.h"

#include "base/compiler.h"
#include "base/types.h"
#include <elf.h>
#include <link.h>
#include <string.h>

/* What is read of a loaded object. */
struct elf_object {
	uintptr_t base;
	const ElfW(Dyn) *dynamic;
	const ElfW(Sym) *symtab;
	const char *strtab;
	const u32 *gnu_hash;
	const ElfW(Half) *versym;
	const char *soname;
};

struct search {
	const char *name;		/* what is looked for */
	const void *caller;
	struct elf_object of_caller;	/* object that contains the caller; dynamic NULL: unknown */
	void *found;
};

/* Most C libraries relocate the pointers of the dynamic section in place, some (and the vdso) do not. */
static const void *dyn_pointer(const struct elf_object *obj, uintptr_t value)
{
	return (const void *)(value < obj->base ? obj->base + value : value);
}

static bool elf_object_read(const struct dl_phdr_info *info, struct elf_object *obj)
{
	const ElfW(Dyn) *soname = NULL;

	memset(obj, 0, sizeof(*obj));
	obj->base = info->dlpi_addr;
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
			obj->dynamic = (const void *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
	}
	if (obj->dynamic == NULL)
		return false;
	for (const ElfW(Dyn) *d = obj->dynamic; d->d_tag != DT_NULL; d++) {
		switch (d->d_tag) {
		case DT_SYMTAB:
			obj->symtab = dyn_pointer(obj, d->d_un.d_ptr);
			break;
		case DT_STRTAB:
			obj->strtab = dyn_pointer(obj, d->d_un.d_ptr);
			break;
		case DT_GNU_HASH:
			obj->gnu_hash = dyn_pointer(obj, d->d_un.d_ptr);
			break;
		case DT_VERSYM:
			obj->versym = dyn_pointer(obj, d->d_un.d_ptr);
			break;
		case DT_SONAME:
			soname = d;
			break;
		}
	}
	if (soname != NULL && obj->strtab != NULL)
		obj->soname = obj->strtab + soname->d_un.d_val;
	return obj->symtab != NULL && obj->strtab != NULL && obj->gnu_hash != NULL;
}

static u32 gnu_hash_of(const char *name)
{
	u32 h = 5381;

	for (; *name != '\0'; name++)
		h = h * 33 + (unsigned char)*name;
	return h;
}

static void *symbol_address(const struct elf_object *obj, u32 index)
{
	const ElfW(Sym) *sym = &obj->symtab[index];
	unsigned type = ELF64_ST_TYPE(sym->st_info);

	if (sym->st_shndx == SHN_UNDEF || (type != STT_FUNC && type != STT_NOTYPE))
		return NULL;
	if (obj->versym != NULL && (obj->versym[index] & 0x8000u) != 0)	/* an old version, hidden */
		return NULL;
	return (void *)(obj->base + sym->st_value);
}

/* The definition of a function in one object, or NULL. Layout of the table: see the dynamic linker's manual. */
static void *elf_lookup(const struct elf_object *obj, const char *name)
{
	u32 hash = gnu_hash_of(name);
	u32 nr_buckets = obj->gnu_hash[0], first = obj->gnu_hash[1], nr_bloom = obj->gnu_hash[2];
	const ElfW(Addr) *bloom = (const void *)&obj->gnu_hash[4];
	const u32 *buckets = (const void *)&bloom[nr_bloom];
	const u32 *chains = buckets + nr_buckets;

	if (nr_buckets == 0)
		return NULL;

	u32 index = buckets[hash % nr_buckets];

	if (index < first)
		return NULL;
	for (;; index++) {
		u32 h = chains[index - first];

		if ((h | 1) == (hash | 1) && strcmp(obj->strtab + obj->symtab[index].st_name, name) == 0) {
			void *p = symbol_address(obj, index);

			if (p != NULL)
				return p;
		}
		if (h & 1)
			return NULL;
	}
}

static void *runtime_lookup(const struct elf_object *obj, const char *name)
{
	if (elf_lookup(obj, "_ZSt15get_new_handlerv") == NULL && elf_lookup(obj, "_ZSt17__throw_bad_allocv") == NULL)
		return NULL;
	return elf_lookup(obj, name);
}

static bool contains(const struct dl_phdr_info *info, const void *addr)
{
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];

		if (ph->p_type == PT_LOAD && (uintptr_t)addr - (info->dlpi_addr + ph->p_vaddr) < ph->p_memsz)
			return true;
	}
	return false;
}

static bool needs(const struct elf_object *obj, const char *soname)
{
	if (obj->dynamic == NULL || obj->strtab == NULL || soname == NULL)
		return false;
	for (const ElfW(Dyn) *d = obj->dynamic; d->d_tag != DT_NULL; d++) {
		if (d->d_tag == DT_NEEDED && strcmp(obj->strtab + d->d_un.d_val, soname) == 0)
			return true;
	}
	return false;
}

static int search_caller(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct search *s = arg;

	(void)size;
	if (!contains(info, s->caller))
		return 0;
	if (elf_object_read(info, &s->of_caller))
		s->found = runtime_lookup(&s->of_caller, s->name);
	return 1;
}

static int search_needed(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct search *s = arg;
	struct elf_object obj;

	(void)size;
	if (elf_object_read(info, &obj) && needs(&s->of_caller, obj.soname))
		s->found = runtime_lookup(&obj, s->name);
	return s->found != NULL;
}

static int search_any(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct search *s = arg;
	struct elf_object obj;

	(void)size;
	if (elf_object_read(info, &obj))
		s->found = runtime_lookup(&obj, s->name);
	return s->found != NULL;
}

void *find_cxx_runtime_symbol(const char *mangled, const void *caller)
{
	struct search s = { .name = mangled, .caller = caller };

	dl_iterate_phdr(search_caller, &s);
	if (s.found == NULL)
		dl_iterate_phdr(search_needed, &s);
	if (s.found == NULL)
		dl_iterate_phdr(search_any, &s);
	return s.found;
}
