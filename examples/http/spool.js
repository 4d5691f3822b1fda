// Clicks that wait on disk while the database is away: lines in a file of bounded size. A directory is
// for one gateway alone.
'use strict';

const fs = require('node:fs/promises');
const path = require('node:path');
const { Problem } = require('./errors');

class Spool {
	#turn = Promise.resolve(); // of who writes to the file or gives it another name
	#file;
	#written = 0; // bytes in "waiting"
	#unread = []; // lines of "replayed" that are not in the database yet
	#replayed = 0; // bytes in "replayed"

	static async open(directory, limit) {
		const spool = new Spool();

		await fs.mkdir(directory, { recursive: true, mode: 0o700 });
		Object.assign(spool, { directory, limit, waiting: path.join(directory, 'waiting.jsonl'), replaying: path.join(directory, 'replaying.jsonl'),
			refused: path.join(directory, 'refused.jsonl') });
		await spool.#read();
		await spool.#openFile();
		return spool;
	}

	get bytes() {
		return this.#written + this.#replayed;
	}

	// Durable when it returns. Half a line must not be left in front of others.
	append(lines) {
		const text = lines.map(line => line + '\n').join('');
		const bytes = Buffer.byteLength(text);

		return this.#take(async () => {
			if (this.bytes + bytes > this.limit)
				throw new Problem(503, 'no more clicks can wait for the database');
			try {
				await this.#file.appendFile(text);
				await this.#file.datasync();
			} catch (error) {
				await this.#file.truncate(this.#written);
				throw new Problem(503, 'clicks cannot be kept');
			}
			this.#written += bytes;
		});
	}

	// Give all that waits to insert(), some lines at a time: again from where it failed.
	async replay(insert) {
		if (this.#replayed === 0)
			await this.#take(() => this.#rename());
		do {
			const lines = this.#unread.slice(0, 1000);

			await insert(lines);
			this.#unread.splice(0, lines.length);
		} while (this.#unread.length > 0);
		await fs.rm(this.replaying, { force: true });
		this.#replayed = 0;
	}

	async refuse(line) {
		await fs.appendFile(this.refused, line + '\n', { mode: 0o600, flush: true });
	}

	async close() {
		await this.#take(() => this.#file.close());
	}

	#take(work) {
		const done = this.#turn.then(work);

		this.#turn = done.catch(() => {});
		return done;
	}

	async #openFile() {
		this.#file = await fs.open(this.waiting, 'a', 0o600);
		this.#written = (await this.#file.stat()).size;
		await this.#syncDirectory();
	}

	async #rename() {
		if (this.#written === 0)
			return;
		await this.#file.close();
		await fs.rename(this.waiting, this.replaying);
		await this.#read();
		await this.#openFile();
	}

	// What stands behind the last end of a line was never acknowledged.
	async #read() {
		const text = await fs.readFile(this.replaying, 'utf8').catch(() => '');

		this.#unread = text.split('\n').slice(0, -1);
		this.#replayed = Buffer.byteLength(text);
	}

	async #syncDirectory() {
		const directory = await fs.open(this.directory);

		await directory.sync();
		await directory.close();
	}
}

module.exports = Spool;
