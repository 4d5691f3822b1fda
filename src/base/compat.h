/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  What differs between PostgreSQL 15 and 18, in one place.
 *
 * The rest of the code is written for the newest names.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_COMPAT_H
#define ADCLICK_COMPAT_H

#include "postgres.h"

#include "access/genam.h"
#include "access/tableam.h"
#include "storage/lwlock.h"
#include "utils/guc.h"

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 190000
#error "adclick needs PostgreSQL 15, 16, 17 or 18"
#endif

/* 16 renamed the name of a file, and tells by an enum which indexes an update needs */
#if PG_VERSION_NUM >= 160000
#define compat_file_of(relation) ((relation)->rd_locator.relNumber)
#define compat_set_new_file relation_set_new_filelocator
typedef RelFileLocator compat_file_locator;
typedef TU_UpdateIndexes compat_update_indexes;
#else
#define compat_file_of(relation) ((relation)->rd_node.relNode)
#define compat_set_new_file relation_set_new_filenode
typedef RelFileNode compat_file_locator;
typedef bool compat_update_indexes;
#endif

/* 18 added instrumentation to index scans */
#if PG_VERSION_NUM >= 180000
#define compat_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan(heap, index, snapshot, NULL, nkeys, 0)
#else
#define compat_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan(heap, index, snapshot, nkeys, 0)
#endif

/* 16 can restrict it to summarizing indexes */
#if PG_VERSION_NUM >= 160000
#define compat_insert_index_tuples(info, slot, estate) \
	ExecInsertIndexTuples(info, slot, estate, false, false, NULL, NIL, false)
#else
#define compat_insert_index_tuples(info, slot, estate) \
	ExecInsertIndexTuples(info, slot, estate, false, false, NULL, NIL)
#endif

/* 17 asks for restrictions of a foreign path, 18 for disabled nodes; both have none */
#if PG_VERSION_NUM >= 180000
#define compat_foreignscan_path(root, rel, rows, startup, total, pathkeys, outer, private) \
	create_foreignscan_path(root, rel, NULL, rows, 0, startup, total, pathkeys, outer, NULL, NIL, private)
#define compat_foreign_upper_path(root, rel, target, rows, startup, total, private) \
	create_foreign_upper_path(root, rel, target, rows, 0, startup, total, NIL, NULL, NIL, private)
#elif PG_VERSION_NUM >= 170000
#define compat_foreignscan_path(root, rel, rows, startup, total, pathkeys, outer, private) \
	create_foreignscan_path(root, rel, NULL, rows, startup, total, pathkeys, outer, NULL, NIL, private)
#define compat_foreign_upper_path(root, rel, target, rows, startup, total, private) \
	create_foreign_upper_path(root, rel, target, rows, startup, total, NIL, NULL, NIL, private)
#else
#define compat_foreignscan_path(root, rel, rows, startup, total, pathkeys, outer, private) \
	create_foreignscan_path(root, rel, NULL, rows, startup, total, pathkeys, outer, NULL, private)
#define compat_foreign_upper_path(root, rel, target, rows, startup, total, private) \
	create_foreign_upper_path(root, rel, target, rows, startup, total, NIL, NULL, private)
#endif

/* 16 knows outer joins by the columns themselves */
#if PG_VERSION_NUM >= 160000
#define compat_expression_pathkey(root, expr, operator, rel) \
	build_expression_pathkey(root, expr, operator, (rel)->relids, false)
#else
#define compat_expression_pathkey(root, expr, operator, rel) \
	build_expression_pathkey(root, expr, NULL, operator, (rel)->relids, false)
#endif

/* 17 looks at the statistics of arrays */
#if PG_VERSION_NUM >= 170000
#define compat_array_length(root, array) estimate_array_length(root, array)
#else
#define compat_array_length(root, array) estimate_array_length(array)
#endif

/* 18 moved what prints EXPLAIN's properties */
#if PG_VERSION_NUM >= 180000
#include "commands/explain_format.h"
#include "commands/explain_state.h"
#else
#include "commands/explain.h"
#endif

/* 18 asks whether a deferrable key will do */
#if PG_VERSION_NUM >= 180000
#define compat_primary_key(relation) RelationGetPrimaryKeyIndex(relation, false)
#else
#define compat_primary_key(relation) RelationGetPrimaryKeyIndex(relation)
#endif

/* 17 can ask for stronger modes, too */
#if PG_VERSION_NUM >= 170000
#define compat_lock_held_by_me(tag, mode) LockHeldByMe(tag, mode, false)
#else
#define compat_lock_held_by_me(tag, mode) LockHeldByMe(tag, mode)
#endif

/* 16 can hand what is copied to a function */
#if PG_VERSION_NUM >= 160000
#define compat_begin_copy_to(pstate, query, command, options) \
	BeginCopyTo(pstate, NULL, query, InvalidOid, command, true, NULL, NIL, options)
#else
#define compat_begin_copy_to(pstate, query, command, options) \
	BeginCopyTo(pstate, NULL, query, InvalidOid, command, true, NIL, options)
#endif

/* 16 lets actions of the JSON parser tell of errors, 17 can have the lexer on the stack */
#if PG_VERSION_NUM >= 160000
#define compat_json_result JsonParseErrorType
#define compat_json_success JSON_SUCCESS
#else
#define compat_json_result void
#define compat_json_success
#endif
#if PG_VERSION_NUM >= 170000
#define compat_json_lexer(text, length) \
	makeJsonLexContextCstringLen(NULL, text, length, GetDatabaseEncoding(), true)
#else
#define compat_json_lexer(text, length) \
	makeJsonLexContextCstringLen(text, length, GetDatabaseEncoding(), true)
#endif

/* 17 has forgotten its code */
#ifndef ERRCODE_SNAPSHOT_TOO_OLD
#define ERRCODE_SNAPSHOT_TOO_OLD MAKE_SQLSTATE('7', '2', '0', '0', '0')
#endif

/* Minor versions since 2023 know databases whose removal was interrupted */
#define COMPAT_INVALID_CONNECTION_LIMIT (-2)

/* 18 has the attribute at the front of a declaration */
#if PG_VERSION_NUM < 180000
#define pg_noreturn __attribute__((noreturn))
#endif

#endif							/* ADCLICK_COMPAT_H */
