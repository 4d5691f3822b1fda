/*-------------------------------------------------------------------------
 *
 * guc.c
 *	  The settings.
 *
 * One block each; bounds and defaults are here and nowhere else.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "miscadmin.h"
#include "port.h"

#include "adclick.h"
#include "compat.h"

int			adclick_dedup_memory = 256;
int			adclick_dedup_window = 600;
int			adclick_dedup_by = DEDUP_BY_CLICK_ID;
int			adclick_user_clicks_per_minute = 0;
int			adclick_ip_clicks_per_minute = 0;
int			adclick_watermark = 10;
int			adclick_tick_interval = 1000;
int			adclick_max_filters = 10000;
int			adclick_future_tolerance = 300;
int			adclick_raw_retention = 7 * 24 * 60;
int			adclick_ledger_retention = 0;
int			adclick_user_and_ip_retention = 0;
int			adclick_minute_retention = 0;
int			adclick_day_retention = 0;
char	   *adclick_archive_directory = NULL;
int			adclick_impression_expiry = 3600;
bool		adclick_user_and_ip_orders = true;
int			adclick_top_ads_kept = 1000;
bool		adclick_workers_on = true;

static const struct config_enum_entry dedup_by_options[] = {
	{"click_id", DEDUP_BY_CLICK_ID, false},
	{"user_and_ad", DEDUP_BY_USER_AND_AD, false},
	{NULL, 0, false}
};

/* Whether it exists is told when it is used: a server has to start without it. */
static bool
check_archive_directory(char **value, void **extra, GucSource source)
{
	if (**value == '\0')
		return true;
	canonicalize_path(*value);
	if (!is_absolute_path(*value))
	{
		GUC_check_errdetail("It should be an absolute path.");
		return false;
	}
	if (DataDir && path_is_prefix_of_path(DataDir, *value))
	{
		GUC_check_errdetail("It should lie outside of the data directory.");
		return false;
	}
	return true;
}

void
guc_define(void)
{
	DefineCustomIntVariable("adclick.dedup_memory",
							"Shared memory for the keys of clicks already seen.",
							"At 10,000 clicks a second ten minutes of keys take about 250 MB. "
							"What does not fit is looked for among the stored keys, which takes longer.",
							&adclick_dedup_memory,
							256, 1, INT_MAX / 1024,
							PGC_POSTMASTER, GUC_UNIT_MB, NULL, NULL, NULL);

	DefineCustomIntVariable("adclick.dedup_window",
							"Length of the tumbling window in which equal clicks are duplicates.",
							NULL,
							&adclick_dedup_window,
							600, 1, 24 * 3600,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);

	DefineCustomEnumVariable("adclick.dedup_by",
							 "What makes two clicks of one window duplicates.",
							 "\"click_id\": the same id; \"user_and_ad\": the same user and ad.",
							 &adclick_dedup_by,
							 DEDUP_BY_CLICK_ID, dedup_by_options,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("adclick.user_clicks_per_minute",
							"How many clicks of a user count in a minute; 0: any number.",
							"Further ones are discarded. It has no effect while adclick.user_and_ip_orders is off.",
							&adclick_user_clicks_per_minute,
							0, 0, MAX_CLICKS_PER_MINUTE,
							PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("adclick.ip_clicks_per_minute",
							"How many clicks from an address count in a minute; 0: any number.",
							"Further ones are discarded. It has no effect while adclick.user_and_ip_orders is off.",
							&adclick_ip_clicks_per_minute,
							0, 0, MAX_CLICKS_PER_MINUTE,
							PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("adclick.watermark",
							"How long after its end a minute stays open before it is compacted.",
							NULL,
							&adclick_watermark,
							10, 0, 3600,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);

	DefineCustomIntVariable("adclick.tick_interval",
							"Time between two rounds of the background workers.",
							"A tail too large for one tick is taken without a pause.",
							&adclick_tick_interval,
							1000, 10, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);

	DefineCustomIntVariable("adclick.max_filters",
							"How many combinations of country, region and device are told apart.",
							"Clicks of further combinations count as \"other\".",
							&adclick_max_filters,
							10000, 1, 1000000,
							PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("adclick.future_tolerance",
							"How far ahead of its arrival a click's time may be.",
							"Clicks further ahead are discarded.",
							&adclick_future_tolerance,
							300, 0, 24 * 3600,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);

	DefineCustomIntVariable("adclick.raw_retention",
							"How far behind its arrival a click's time may be.",
							"Clicks further behind are discarded.",
							&adclick_raw_retention,
							7 * 24 * 60, 60, 3650 * 24 * 60,
							PGC_SIGHUP, GUC_UNIT_MIN, NULL, NULL, NULL);

	DefineCustomIntVariable("adclick.ledger_retention",
							"How long the clicks that were counted stay in the ledger, and the others in adclick.discarded_clicks; 0: for ever.",
							"Counts stay. It must be longer than copies of a click may arrive.",
							&adclick_ledger_retention,
							0, 0, 36500 * 24 * 60,
							PGC_SIGHUP, GUC_UNIT_MIN, NULL, NULL, NULL);

	DefineCustomStringVariable("adclick.archive_directory",
							   "Where adclick.archive_clicks() writes clicks before they are dropped from the ledger; empty: nowhere.",
							   "Where it is set, nothing is dropped that has not been written there.",
							   &adclick_archive_directory,
							   "",
							   PGC_SUSET, 0, check_archive_directory, NULL, NULL);

	/* no longer than a time inside an id is believed: so all clicks of an impression have one dedup bucket */
	DefineCustomIntVariable("adclick.impression_expiry",
							"How long after it was issued an impression may be clicked.",
							"Later clicks are redirected, and discarded.",
							&adclick_impression_expiry,
							3600, 1, 24 * 3600,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);

	DefineCustomIntVariable("adclick.user_and_ip_retention",
							"How long clicks can be found by user and by address; 0: for ever.",
							"Counts by ad stay. It must be longer than a click's time may be ahead of its arrival.",
							&adclick_user_and_ip_retention,
							0, 0, 36500 * 24 * 60,
							PGC_SIGHUP, GUC_UNIT_MIN, NULL, NULL, NULL);

	DefineCustomIntVariable("adclick.minute_retention",
							"How long clicks are kept by minute and by hour; 0: for ever.",
							"Their days (UTC) stay. It must be longer than clicks may be late.",
							&adclick_minute_retention,
							0, 0, 36500 * 24 * 60,
							PGC_SIGHUP, GUC_UNIT_MIN, NULL, NULL, NULL);

	DefineCustomIntVariable("adclick.day_retention",
							"How long clicks are kept by day (UTC); 0: for ever.",
							"What is older counts no more. It must not be shorter than adclick.minute_retention.",
							&adclick_day_retention,
							0, 0, 36500 * 24 * 60,
							PGC_SIGHUP, GUC_UNIT_MIN, NULL, NULL, NULL);

	DefineCustomBoolVariable("adclick.user_and_ip_orders",
							 "Whether clicks are also kept by user and by address.",
							 "Off saves much of the space and of the work; questions by "
							 "user_id and ip, and unique_users, then have no answer.",
							 &adclick_user_and_ip_orders,
							 true,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("adclick.top_ads_kept",
							"How many of the most clicked ads of each minute are kept for top-N.",
							"For \"no filter\" and each filter registered by adclick.add_filter().",
							&adclick_top_ads_kept,
							1000, 1, 10000,
							PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomBoolVariable("adclick.workers",
							 "Whether background workers take clicks and pack counts.",
							 "Off keeps them out, of one database with ALTER DATABASE; "
							 "adclick.tick() and adclick.compact() work all the same.",
							 &adclick_workers_on,
							 true,
							 PGC_SUSET, 0, NULL, NULL, NULL);

	MarkGUCPrefixReserved("adclick");
}
