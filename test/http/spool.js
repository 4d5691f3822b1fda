// While the database is away: clicks wait on disk, in bounds, survive a crash of the gateway, and count once.
'use strict';

const assert = require('node:assert/strict');
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const fsPromises = require('node:fs/promises');
const os = require('node:os');
const path = require('node:path');
const { after, test } = require('node:test');
const { Gateway, cleanUp, database, isProblem, pgCtl, root, sql, until, value } = require('./lib/gateway');
const Spool = require(path.join(root, 'examples/http/spool'));

after(cleanUp);

const stop = () => pgCtl('-m', 'fast', 'stop');
const start = () => pgCtl('start');
const isEmpty = gateway => until('the spool is empty', async () => (await gateway.health()).spooledBytes === 0);
const users = ad => value('SELECT coalesce(array_agg(user_id::int ORDER BY user_id), \'{}\') FROM adclick.click_log WHERE ad_id = $1', [ad]);
const range = (first, last) => Array.from({ length: last - first + 1 }, (_, i) => first + i);

async function clickAll(gateway, ad, ids, status = 302) {
	for (const response of await Promise.all(ids.map(userId => gateway.click(ad, { userId }))))
		assert.equal(response.status, status, response.text);
}

test('what is known is redirected without a database, and counted later', async () => {
	const gateway = await Gateway.start();

	await clickAll(gateway, 1, [1]);
	await stop();
	await clickAll(gateway, 1, range(2, 50));
	assert.equal((await gateway.health()).database, 'away');
	assert.ok((await gateway.health()).spooledBytes > 0);
	isProblem(await gateway.click(2), 503);
	assert.equal((await gateway.click(2)).headers['retry-after'], '1');
	isProblem(await gateway.ask('/ads/1/adClickCount?from=-infinity&to=infinity', { role: 'shoes' }), 503);
	await start();
	await isEmpty(gateway);
	await clickAll(gateway, 1, [51]);
	assert.deepEqual(await users(1), range(1, 51));
	assert.deepEqual(fs.readdirSync(gateway.spool).sort(), ['lock', 'waiting.jsonl']);
	assert.match(gateway.log, /the database is away[^]*the database is back/);
	assert.equal(await gateway.stop(), 0);
	assert.deepEqual(fs.readdirSync(gateway.spool), ['waiting.jsonl']);
});

// What is in the spool, in whichever file it is just now.
const textOf = file => {
	try {
		return fs.readFileSync(file, 'utf8');
	} catch (error) {
		return '';
	}
};

// So many lines: when a file gets another name, some may be in none of those that were looked at.
async function whatWaits(gateway, n) {
	for (;;) {
		const text = ['replaying.jsonl', 'waiting.jsonl'].map(name => textOf(path.join(gateway.spool, name))).join('');

		if (text.split('\n').length > n)
			return text;
		await new Promise(setImmediate);
	}
}

test('times are those of the clicks', async () => {
	const gateway = await Gateway.start();

	await clickAll(gateway, 3, [1]);
	await stop();
	const before = new Date();
	await clickAll(gateway, 3, [2]);
	const click = JSON.parse(await whatWaits(gateway, 1));
	await start();
	await isEmpty(gateway);
	const [[clickedAt, id]] = await sql('SELECT clicked_at, click_id FROM adclick.click_log WHERE ad_id = 3 AND user_id = 2');
	assert.equal(clickedAt.toISOString(), click.clicked_at);
	assert.equal(id.replaceAll('-', ''), click.click_id);
	assert.equal(parseInt(id.replaceAll('-', '').slice(0, 12), 16), clickedAt.getTime());
	assert.ok(clickedAt >= before && clickedAt <= new Date());
	assert.equal(await gateway.stop(), 0);
});

test('an impression is judged by the time of the click, not of its arrival', async () => {
	const gateway = await Gateway.start();
	const impression = await value('SELECT adclick.new_impression(4, 1)');

	await clickAll(gateway, 4, [9]);
	await stop();
	for (let i = 0; i < 3; i++)
		assert.equal((await gateway.click(4, { userId: 1, impression })).status, 302);
	assert.equal((await gateway.click(4, { userId: 2, impression })).status, 302);
	await start();
	await isEmpty(gateway);
	await sql('SELECT adclick.tick()');
	assert.deepEqual(await sql('SELECT verdict, count(*)::int FROM adclick.click_log WHERE ad_id = 4 AND user_id <> 9 GROUP BY 1 ORDER BY 1'),
		[['counted', 1], ['duplicate', 2], ['forged impression', 1]]);
	assert.equal(await gateway.stop(), 0);
});

test('a full spool takes no more, and says so', async () => {
	const gateway = await Gateway.start({ SPOOL_BYTES: '2000' });
	let taken = 0;

	await clickAll(gateway, 5, [0]);
	await stop();
	for (let status = 302; status === 302; ) {
		const response = await gateway.click(5, { userId: taken + 1 });

		status = response.status;
		taken += status === 302;
		if (status !== 302) {
			isProblem(response, 503, /no more clicks can wait/);
			assert.equal(response.headers['retry-after'], '1');
		}
	}
	assert.ok(taken > 5 && taken < 20, `${taken} taken`);
	assert.ok((await gateway.health()).spooledBytes <= 2000);
	isProblem(await gateway.click(5), 503, /no more clicks can wait/);
	await start();
	await isEmpty(gateway);
	assert.deepEqual(await users(5), range(0, taken));
	await clickAll(gateway, 5, [100]);
	assert.equal(await gateway.stop(), 0);
	assert.equal(gateway.log.split('no more clicks can wait').length, 2, 'it is logged, once');
});

test('a gateway that is killed loses nothing that it has answered', async () => {
	const first = await Gateway.start();

	await clickAll(first, 6, [0]);
	await stop();
	await clickAll(first, 6, range(1, 200));
	await first.stop('SIGKILL');
	// half a line, as of a write that was cut off, was never answered
	fs.appendFileSync(path.join(first.spool, 'waiting.jsonl'), '{"click_id":"019aa9d4');
	const second = await Gateway.start({ SPOOL: first.spool });

	assert.ok((await second.health()).spooledBytes > 0, 'it waits while the database is away');
	await start();
	await isEmpty(second);
	assert.deepEqual(await users(6), range(0, 200));
	assert.equal(await second.stop(), 0);
});

test('what was inserted before and is replayed counts once', async () => {
	const first = await Gateway.start();

	await clickAll(first, 7, [0]);
	await stop();
	await clickAll(first, 7, range(1, 1500));
	const lines = await whatWaits(first, 1500);
	await start();
	await isEmpty(first);
	await first.stop('SIGKILL');
	// as if it had died before it removed the file, and once more
	fs.writeFileSync(path.join(first.spool, 'replaying.jsonl'), lines);
	fs.writeFileSync(path.join(first.spool, 'waiting.jsonl'), lines);
	const second = await Gateway.start({ SPOOL: first.spool });

	await isEmpty(second);
	await sql('SELECT adclick.tick()');
	assert.deepEqual(await sql('SELECT verdict, count(*)::int FROM adclick.click_log WHERE ad_id = 7 GROUP BY 1 ORDER BY 1'), [['counted', 1501], ['duplicate', 3000]]);
	assert.equal(await value("SELECT adclick.ad_click_count_between(7, '-infinity', 'infinity')::int"), 1501);
	assert.equal(await second.stop(), 0);
});

test('a line that the database refuses is set aside, and holds up no other', async () => {
	const first = await Gateway.start();

	await clickAll(first, 8, [0]);
	await stop();
	await clickAll(first, 8, range(1, 5));
	await first.stop('SIGKILL');
	fs.appendFileSync(path.join(first.spool, 'waiting.jsonl'), 'no JSON\n{"click_id":"x","ad_id":8}\n{"click_id":"019aa9d470a07c118b7e5f0f3a010001","clicked_at":"2026-01-01","ad_id":"9223372036854775808"}\n');
	const second = await Gateway.start({ SPOOL: first.spool });

	await clickAll(second, 8, [6], 503);
	await start();
	await isEmpty(second);
	assert.deepEqual(await users(8), range(0, 5));
	assert.equal(fs.readFileSync(path.join(first.spool, 'refused.jsonl'), 'utf8').split('\n').length, 4);
	assert.equal((await second.health()).refused, 3);
	assert.match(second.log, /"clicks":3,"msg":"the database refused clicks"/);
	assert.equal(await second.stop(), 0);
});

test('a file that cannot be read is not taken for an empty one', async () => {
	const first = await Gateway.start();
	const [waiting, replaying] = ['waiting.jsonl', 'replaying.jsonl'].map(name => path.join(first.spool, name));

	await clickAll(first, 15, [0]);
	await stop();
	await clickAll(first, 15, range(1, 5));
	const lines = await whatWaits(first, 5);
	await first.stop('SIGKILL');
	fs.rmSync(replaying, { force: true });
	fs.writeFileSync(waiting, lines);
	fs.chmodSync(waiting, 0o200); // it can be appended to, and cut
	await assert.rejects(Gateway.start({ SPOOL: first.spool }), /EACCES/);
	fs.renameSync(waiting, replaying);
	await start();
	const second = await Gateway.start({ SPOOL: first.spool });

	await until('it is said', () => second.log.includes('cannot be replayed'));
	assert.match(second.log, /"code":"EACCES"/);
	await clickAll(second, 15, [6]);
	assert.equal((await second.health()).database, 'there');
	fs.chmodSync(replaying, 0o600);
	await isEmpty(second);
	assert.deepEqual(await users(15), range(0, 6));
	assert.equal(await second.stop(), 0);
});

test('a spool is of one gateway', async () => {
	const first = await Gateway.start();

	await assert.rejects(Gateway.start({ SPOOL: first.spool }), new RegExp(`is used by process ${first.process.pid}`));
	assert.equal(fs.readFileSync(path.join(first.spool, 'lock'), 'utf8'), `${first.process.pid}\n`);
	await clickAll(first, 16, [1]);
	await first.stop('SIGKILL');
	const second = await Gateway.start({ SPOOL: first.spool });

	assert.equal(fs.readFileSync(path.join(first.spool, 'lock'), 'utf8'), `${second.process.pid}\n`, 'what a crash has left is taken over');
	assert.equal(await second.stop(), 0);
	assert.ok(!fs.existsSync(path.join(first.spool, 'lock')));
	fs.writeFileSync(path.join(first.spool, 'lock'), '');
	assert.equal(await (await Gateway.start({ SPOOL: first.spool })).stop(), 0);
});

// A spool in this process, with such files, and all that it replays.
async function openSpool(files = {}) {
	const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'spool.'));

	for (const [name, text] of Object.entries(files))
		fs.writeFileSync(path.join(directory, name), text);
	return Spool.open(directory, 1e12);
}

async function replayAll(spool) {
	const all = [];

	await spool.replay(async lines => {
		all.push(...lines);
	});
	return all;
}

test('a file is replayed in pieces, each again until it is taken', async () => {
	const lines = range(1, 5000).map(n => `${n} ${'\u00e9\u2028'.repeat(n % 97)}`);
	const spool = await openSpool({ 'replaying.jsonl': `${lines.join('\n')}\nhalf a li`, 'waiting.jsonl': 'later\n' });
	const taken = [];
	let calls = 0;
	const insert = async some => {
		assert.ok(some.length < 2500);
		if (++calls % 2)
			throw new Error('the database is away');
		taken.push(...some);
	};

	while (spool.bytes > 0)
		await spool.replay(insert).catch(({ message }) => assert.equal(message, 'the database is away'));
	assert.deepEqual(taken, [...lines, 'later']);
	assert.ok(calls > 10);
	await spool.close();
});

test('half a line at the end is cut off, a line without end is not one that stops all', async () => {
	for (const half of ['', 'half', 'x'.repeat(300000)]) {
		const spool = await openSpool({ 'waiting.jsonl': `1\n2\n${half}` });

		assert.equal(spool.bytes, 4);
		await spool.append(['3']);
		assert.deepEqual(await replayAll(spool), ['1', '2', '3']);
		await spool.close();
	}
	const spool = await openSpool({ 'replaying.jsonl': `1\n${'x'.repeat(300000)}\n2\n`, 'waiting.jsonl': 'half' });
	const all = await replayAll(spool);

	assert.equal(spool.bytes, 0);
	assert.deepEqual([all[0], all.slice(1, -1).join(''), all.at(-1)], ['1', 'x'.repeat(300000), '2']);
	await spool.close();
});

// While it runs, "waiting" is opened by another function.
async function openedBy(open, work) {
	const original = fsPromises.open;

	fsPromises.open = (name, ...rest) => name.endsWith('waiting.jsonl') ? open(() => original(name, ...rest)) : original(name, ...rest);
	try {
		return await work();
	} finally {
		fsPromises.open = original;
	}
}

const fail = code => {
	throw Object.assign(new Error(code), { code });
};

test('a file that cannot be opened is opened later', async () => {
	const spool = await openSpool();

	await spool.append(['1']);
	await openedBy(async () => fail('EMFILE'), async () => {
		assert.deepEqual(await replayAll(spool), ['1']);
		await assert.rejects(spool.append(['not kept']), { statusCode: 503, code: 'EMFILE' });
	});
	await spool.append(['2']);
	assert.deepEqual(await replayAll(spool), ['2']);
	await spool.close();
});

test('half a line that could be written is not left in front of others', async () => {
	const halves = async open => {
		const file = await open();

		return Object.assign(file, { appendFile: async text => {
			await file.write(text.slice(0, 3));
			fail('ENOSPC');
		} });
	};
	const spool = await openSpool();

	await spool.append(['1']);
	await openedBy(halves, async () => {
		assert.deepEqual(await replayAll(spool), ['1']);
		for (let i = 0; i < 3; i++)
			await assert.rejects(spool.append(['not kept']), { statusCode: 503, code: 'ENOSPC' });
		assert.equal(fs.statSync(spool.waiting).size, 0);
	});
	await assert.rejects(spool.append(['not kept']), 'it is opened anew after that');
	await spool.append(['2']);
	assert.equal(fs.readFileSync(spool.waiting, 'utf8'), '2\n');
	assert.deepEqual(await replayAll(spool), ['2']);
	await spool.close();
});

test('a click that a trigger refuses is no redirect, and others are', async () => {
	const gateway = await Gateway.start();

	await sql(`CREATE FUNCTION keep_out() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF new.user_id = 13 THEN RAISE EXCEPTION 'user 13 is kept out'; END IF; RETURN new; END $$;
		CREATE TRIGGER keep_out BEFORE INSERT ON adclick.clicks FOR EACH ROW EXECUTE FUNCTION keep_out()`);
	const answers = await Promise.all(range(10, 20).map(userId => gateway.click(9, { userId })));
	await sql('DROP FUNCTION keep_out CASCADE');
	assert.deepEqual(answers.map(({ status }) => status), range(10, 20).map(user => user === 13 ? 500 : 302));
	isProblem(answers[3], 500, /^internal error$/);
	assert.deepEqual(await users(9), range(10, 20).filter(user => user !== 13));
	assert.equal((await gateway.health()).database, 'there');
	assert.equal((await gateway.health()).refused, 1);
	assert.match(gateway.log, /"code":"P0001","clicks":1,"msg":"the database refused clicks"/);
	assert.equal(await gateway.stop(), 0);
});

test('a database that does not answer is away, too', async () => {
	const gateway = await Gateway.start();

	await clickAll(gateway, 10, [0]);
	const client = await database.connect();
	await client.query('BEGIN');
	await client.query('LOCK TABLE adclick.clicks IN EXCLUSIVE MODE');
	await clickAll(gateway, 10, range(1, 10));
	assert.equal((await gateway.health()).database, 'away');
	await client.query('COMMIT');
	client.release();
	await isEmpty(gateway);
	assert.deepEqual(await users(10), range(0, 10));
	assert.equal(await gateway.stop(), 0);
});

// The processes of the server, which is the test's own.
function serverProcesses() {
	const postmaster = fs.readFileSync(path.join(process.env.PGDATA, 'postmaster.pid'), 'utf8').split('\n')[0];
	const children = execFileSync('ps', ['-o', 'pid=', '--ppid', postmaster], { encoding: 'utf8' }).trim().split(/\s+/);

	return [postmaster, ...children].map(Number);
}

test('a server that hangs is away, and what it does afterwards counts once', async () => {
	const gateway = await Gateway.start();

	await clickAll(gateway, 21, [0]);
	const processes = serverProcesses();
	processes.forEach(pid => process.kill(pid, 'SIGSTOP'));
	try {
		await clickAll(gateway, 21, range(1, 10)); // the statement waits in its connection, the clicks in the spool as well
		assert.equal((await gateway.health()).database, 'away');
		await clickAll(gateway, 21, range(11, 20));
		isProblem(await gateway.click(2), 503);
	} finally {
		processes.forEach(pid => process.kill(pid, 'SIGCONT'));
	}
	await isEmpty(gateway);
	await sql('SELECT adclick.tick()');
	assert.deepEqual(await sql("SELECT count(*)::int, count(DISTINCT user_id)::int FROM adclick.click_log WHERE ad_id = 21 AND verdict = 'counted'"), [[21, 21]]);
	assert.equal(await gateway.stop(), 0);
});

test('the cache of ads is used for a bounded time without the database', async () => {
	const gateway = await Gateway.start({ STALE_SECONDS: '2' });

	await clickAll(gateway, 11, [0]);
	await stop();
	assert.equal((await gateway.click(11)).status, 302);
	await until('what is known is too old', async () => (await gateway.click(11)).status === 503);
	await start();
	await until('ads are asked for again', async () => (await gateway.click(11)).status === 302);
	assert.equal(await gateway.stop(), 0);
});

test('what changed while nobody was listening is known afterwards', async () => {
	const gateway = await Gateway.start();

	await clickAll(gateway, 12, [0]);
	await sql('ALTER ROLE adclick_gateway NOLOGIN');
	await sql("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = 'adclick_gateway'");
	await sql("UPDATE adclick.ads SET redirect_url = 'https://unheard.example/' WHERE ad_id = 12");
	await sql('ALTER ROLE adclick_gateway LOGIN');
	await until('the new address', async () => (await gateway.click(12)).headers.location === 'https://unheard.example/');
	assert.equal(await gateway.stop(), 0);
});

test('SIGTERM answers what has come', async () => {
	const gateway = await Gateway.start();

	await clickAll(gateway, 14, [0]);
	const answers = range(1, 100).map(userId => gateway.click(14, { userId }).catch(error => ({ status: error.code })));
	await until('some have come', async () => (await users(14)).length > 10);
	const code = await gateway.stop();
	const taken = (await Promise.all(answers)).filter(({ status }) => status === 302).length;

	assert.equal(code, 0);
	assert.equal((await users(14)).length, taken + 1, 'those that are answered are counted');
});
