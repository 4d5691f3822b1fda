import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Timestamp;
import java.sql.Types;
import java.time.Instant;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Objects;
import java.util.Properties;
import org.postgresql.util.PGobject;

/** JDBC, and so Metabase: metadata, statements that become server-prepared, cursors, batches. */
public class Jdbc {
	private static final String[] RELATIONS =
		{"TABLE", "PARTITIONED TABLE", "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE"};

	private static int tests;

	private final Connection bi;    // the role of docs/bi.md
	private final Connection shop;  // who sends the clicks and may count them

	public static void main(String[] args) throws SQLException {
		try (Connection bi = connect("bi", "change me"); Connection shop = connect("shop", "sends clicks")) {
			Jdbc test = new Jdbc(bi, shop);
			test.metadata();
			test.questions();
			test.untyped();
			test.views();
			test.cursor();
			test.batch();
		}
		System.out.println("1.." + tests);
	}

	private static Connection connect(String role, String password) throws SQLException {
		Properties properties = new Properties();
		properties.setProperty("user", role);
		properties.setProperty("password", password);
		return DriverManager.getConnection("jdbc:postgresql://127.0.0.1:" + System.getenv("PGPORT") + "/"
				+ System.getenv("PGDATABASE"), properties);
	}

	private Jdbc(Connection bi, Connection shop) {
		this.bi = bi;
		this.shop = shop;
	}

	private void metadata() throws SQLException {
		DatabaseMetaData data = bi.getMetaData();

		equal(list(data.getTables(null, "adclick", "%", RELATIONS), "TABLE_NAME", "TABLE_TYPE"),
			List.of("ads TABLE", "advertiser_roles TABLE", "archived_volumes TABLE", "bad_lines TABLE", "clicks TABLE", "differences TABLE", "filters TABLE",
				"most_clicked_ads TABLE", "most_clicked_ads_daily TABLE", "most_clicked_ads_hourly TABLE", "reconciled_hours TABLE", "reconciliations TABLE", "restored_hours TABLE",
				"ad_click_counts VIEW", "ad_click_counts_daily VIEW", "ad_click_counts_hourly VIEW", "click_log VIEW", "clicks_per_minute VIEW", "discarded_clicks VIEW", "own_ads VIEW", "sources VIEW", "status VIEW", "storage VIEW"),
			"getTables: what people use, and nothing else");
		equal(unremarked(data.getTables(null, "adclick", "%", RELATIONS), "TABLE_NAME"), List.of(), "each with remarks");
		equal(list(data.getColumns(null, "adclick", "clicks_per_minute", "%"), "COLUMN_NAME", "TYPE_NAME", "DATA_TYPE"),
			List.of("click_minute timestamptz " + Types.TIMESTAMP, "ad_id int8 " + Types.BIGINT,
				"advertiser_id int8 " + Types.BIGINT, "country text " + Types.VARCHAR,
				"region text " + Types.VARCHAR, "device text " + Types.VARCHAR, "click_count int8 " + Types.BIGINT),
			"getColumns of a view");
		for (String table : List.of("ad_click_counts", "ad_click_counts_hourly", "ad_click_counts_daily", "clicks_per_minute", "status", "filters", "ads",
				"most_clicked_ads", "most_clicked_ads_hourly", "most_clicked_ads_daily", "differences", "reconciled_hours", "reconciliations", "archived_volumes", "restored_hours", "bad_lines", "sources"))
			equal(unremarked(data.getColumns(null, "adclick", table, "%"), "COLUMN_NAME"), List.of(),
				"each column of " + table + " with remarks");
		List<String> functions = list(data.getFunctions(null, "adclick", "%"), "FUNCTION_NAME");
		ok(functions.containsAll(List.of("ad_click_count", "top_n_ads", "click_series", "breakdown", "unique_users",
				"advertiser_click_count", "explain_top_n", "add_filter", "drop_filter")),
			"getFunctions: the questions: " + functions);
		equal(unremarked(data.getFunctions(null, "adclick", "%"), "FUNCTION_NAME"), List.of(), "each with remarks");
		equal(list(data.getProcedures(null, "adclick", "%"), "PROCEDURE_NAME"), List.of("archive_clicks", "reconcile"), "the procedures");
		equal(list(data.getFunctionColumns(null, "adclick", "click_series", "%"), "COLUMN_NAME", "TYPE_NAME"),
			List.of("ad_id int8", "from timestamptz", "to timestamptz", "bucket interval", "filters jsonb",
				"time timestamptz", "click_count int8"), "getFunctionColumns: what a question takes and returns");
	}

	/** A question asked often enough to get a plan of its own in the server, for each way to pass jsonb. */
	private void questions() throws SQLException {
		String count = "SELECT adclick.ad_click_count(?, 60, ?%s)";
		String clicks = "SELECT count(*) FROM adclick.click_log WHERE ad_id = ? AND country = ?";

		for (String plans : List.of("auto", "force_generic_plan")) {
			execute("SET plan_cache_mode = " + plans);
			for (String way : List.of("PGobject", "Types.OTHER", "cast")) {
				try (PreparedStatement ask = bi.prepareStatement(String.format(count, way.equals("cast") ? "::jsonb" : ""));
						PreparedStatement plain = shop.prepareStatement(clicks)) {
					List<String> answers = new ArrayList<>();
					List<String> expected = new ArrayList<>();

					for (int i = 0; i < 20; i++) {
						String country = i % 2 == 0 ? "CA" : "FR";
						String filters = "{\"country\": \"" + country + "\"}";

						ask.setLong(1, 1001 + i);
						switch (way) {
							case "PGobject" -> ask.setObject(2, jsonb(filters));
							case "Types.OTHER" -> ask.setObject(2, filters, Types.OTHER);
							default -> ask.setString(2, filters);
						}
						plain.setLong(1, 1001 + i);
						plain.setString(2, country);
						answers.addAll(list(ask.executeQuery(), "1"));
						expected.addAll(list(plain.executeQuery(), "1"));
					}
					equal(answers, expected, "twenty counts, jsonb by " + way + ", " + plans);
				}
			}
		}
		ok(genericPlans("ad_click_count") > 0, "the server ran a generic plan");
		execute("RESET plan_cache_mode");
	}

	/** Parameters without a type, as times are always sent: by minutes, and from/to. */
	private void untyped() throws SQLException {
		String[][] questions = {
			{"ad_click_count", "1001", null, "SELECT count(*) FROM adclick.click_log WHERE ad_id = 1001"},
			{"top_n_ads", "1", null, "SELECT 1, ad_id, count(*) FROM adclick.click_log GROUP BY 2 ORDER BY 3 DESC, 2 LIMIT 1"},
			{"breakdown", "1001", "country", "SELECT coalesce(country, 'unknown'), count(*) FROM adclick.click_log"
				+ " WHERE ad_id = 1001 GROUP BY 1 ORDER BY 2 DESC, 1"},
			{"advertiser_click_count", "3", null, "SELECT count(*) FROM adclick.click_log WHERE ad_id % 7 = 3 AND ad_id BETWEEN 1001 AND 1080"}};
		Timestamp from = Timestamp.from(Instant.now().truncatedTo(ChronoUnit.MINUTES).minus(1, ChronoUnit.DAYS));
		Timestamp to = Timestamp.from(from.toInstant().plus(2, ChronoUnit.DAYS));

		for (String[] question : questions) {
			List<String> expected = whole(shop.createStatement().executeQuery(question[3]));

			equal(ask(question[0], question[1], "1440", question[2]), expected, question[0] + " by minutes, untyped");
			equal(ask(question[0] + "_between", question[1], "-infinity", "infinity", question[2]), expected,
				question[0] + "_between, untyped");
			equal(ask(question[0] + "_between", question[1], from, to, question[2]), expected,
				question[0] + "_between, by setTimestamp");
		}
	}

	/** Strings go without a type, NULLs not at all. */
	private List<String> ask(String question, Object... arguments) throws SQLException {
		List<Object> given = Arrays.stream(arguments).filter(Objects::nonNull).toList();
		String marks = String.join(", ", Collections.nCopies(given.size(), "?"));

		try (PreparedStatement statement = bi.prepareStatement("SELECT * FROM adclick." + question + "(" + marks + ")")) {
			for (int i = 0; i < given.size(); i++)
				if (given.get(i) instanceof Timestamp time)
					statement.setTimestamp(i + 1, time);
				else
					statement.setObject(i + 1, given.get(i), Types.OTHER);
			return whole(statement.executeQuery());
		}
	}

	/** Parameters in conditions on a view: unknown when the plan is made. */
	private void views() throws SQLException {
		OffsetDateTime now = OffsetDateTime.now(ZoneOffset.UTC).withSecond(0).withNano(0);
		String view = "SELECT ad_id, sum(click_count)::bigint FROM adclick.ad_click_counts"
			+ " WHERE ad_id BETWEEN ? AND ? AND click_minute >= ? AND click_minute < ? GROUP BY 1 ORDER BY 1";
		String plain = "SELECT ad_id, count(*) FROM adclick.click_log"
			+ " WHERE ad_id BETWEEN ? AND ? AND clicked_at >= ? AND clicked_at < ? GROUP BY 1 ORDER BY 1";

		for (String plans : List.of("auto", "force_custom_plan", "force_generic_plan")) {
			execute("SET plan_cache_mode = " + plans);
			try (PreparedStatement ask = bi.prepareStatement(view); PreparedStatement check = shop.prepareStatement(plain)) {
				List<String> answers = new ArrayList<>();
				List<String> expected = new ArrayList<>();

				for (int i = 0; i < 20; i++) {
					for (PreparedStatement statement : List.of(ask, check)) {
						statement.setLong(1, 1001 + i);
						statement.setLong(2, 1001 + 2 * i);
						statement.setObject(3, now.minusMinutes(2 * i));
						statement.setObject(4, now.minusMinutes(i / 2));
					}
					answers.addAll(list(ask.executeQuery(), "1", "2"));
					expected.addAll(list(check.executeQuery(), "1", "2"));
				}
				ok(!expected.isEmpty(), "there are clicks to find");
				equal(answers, expected, "twenty windows of a view, " + plans);
			}
		}
		ok(genericPlans("ad_click_counts") > 0, "the server ran a generic plan of the view");
		execute("RESET plan_cache_mode");

		List<String> times = new ArrayList<>();
		try (Statement statement = bi.createStatement(); ResultSet result = statement.executeQuery(
				"SELECT click_minute FROM adclick.clicks_per_minute GROUP BY 1 ORDER BY 1")) {
			while (result.next())
				times.add(result.getObject(1, OffsetDateTime.class).toInstant().toString());
		}
		equal(times, list(shop.createStatement().executeQuery(
				"SELECT DISTINCT to_char(clicked_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:00\"Z\"')"
					+ " FROM adclick.click_log ORDER BY 1"), "1"), "times as OffsetDateTime");
	}

	/** A result fetched in parts. */
	private void cursor() throws SQLException {
		bi.setAutoCommit(false);
		try (Statement statement = bi.createStatement()) {
			long clicks = 0;

			statement.setFetchSize(50);
			try (ResultSet result = statement.executeQuery("SELECT click_count FROM adclick.clicks_per_minute")) {
				while (result.next())
					clicks += result.getLong(1);
			}
			equal(List.of(String.valueOf(clicks)),
				list(shop.createStatement().executeQuery("SELECT count(*) FROM adclick.click_log"), "1"),
				"a view fetched fifty rows at a time");
		}
		bi.commit();
		bi.setAutoCommit(true);
	}

	private void batch() throws SQLException {
		try (PreparedStatement insert = shop.prepareStatement(
				"INSERT INTO adclick.clicks (ad_id, user_id, ip, country) VALUES (?, ?, ?::inet, ?)")) {
			for (int i = 0; i < 100; i++) {
				insert.setLong(1, 7002);
				insert.setLong(2, i / 2);
				insert.setString(3, "198.51.100." + i);
				insert.setString(4, i % 4 == 0 ? null : "BR");
				insert.addBatch();
			}
			insert.executeBatch();
		}
		equal(list(bi.createStatement().executeQuery("SELECT value, click_count"
				+ " FROM adclick.breakdown(7002, 60, 'country')"), "1", "2"),
			List.of("BR 75", "unknown 25"), "a batch of clicks counts at once");
	}

	private void execute(String sql) throws SQLException {
		try (Statement statement = bi.createStatement()) {
			statement.execute(sql);
		}
	}

	private long genericPlans(String what) throws SQLException {
		return Long.parseLong(list(bi.createStatement().executeQuery("SELECT coalesce(sum(generic_plans), 0)"
				+ " FROM pg_prepared_statements WHERE statement LIKE '%" + what + "%'"), "1").get(0));
	}

	private static PGobject jsonb(String value) throws SQLException {
		PGobject object = new PGobject();
		object.setType("jsonb");
		object.setValue(value);
		return object;
	}

	/** The columns, by name or number, of each row. */
	private static List<String> list(ResultSet result, String... columns) throws SQLException {
		List<String> rows = new ArrayList<>();

		try (result) {
			while (result.next()) {
				List<String> values = new ArrayList<>();

				for (String column : columns)
					values.add(column.matches("\\d+") ? result.getString(Integer.parseInt(column)) : result.getString(column));
				rows.add(String.join(" ", values));
			}
		}
		return rows;
	}

	/** All columns of each row. */
	private static List<String> whole(ResultSet result) throws SQLException {
		String[] columns = new String[result.getMetaData().getColumnCount()];

		for (int i = 0; i < columns.length; i++)
			columns[i] = String.valueOf(i + 1);
		return list(result, columns);
	}

	private static List<String> unremarked(ResultSet result, String column) throws SQLException {
		List<String> names = new ArrayList<>();

		try (result) {
			while (result.next()) {
				String remarks = result.getString("REMARKS");

				if (remarks == null || remarks.isEmpty())
					names.add(result.getString(column));
			}
		}
		return names;
	}

	private static void ok(boolean passed, String name) {
		System.out.println((passed ? "ok " : "not ok ") + ++tests + " - " + name);
	}

	private static void equal(List<String> got, List<String> expected, String name) {
		ok(Objects.equals(got, expected), name);
		if (!Objects.equals(got, expected))
			System.out.println("# got      " + got + "\n# expected " + expected);
	}
}
