// Clicks that wait on disk while the database is away: lines in a file of bounded size. A directory is
// for one gateway alone.
'use strict';

const fs = require('node:fs/promises');
const path = require('node:path');
const { Problem } = require('./errors');

const PIECE = 128 << 10; // bytes that are read at once: some 1000 lines

// There is nothing where there is no file; any other error says nothing of what there is.
const orNone = error => {
	if (error.code !== 'ENOENT')
		throw error;
	return 0;
};
const sizeOf = name => fs.stat(name).then(({ size }) => size, orNone);

async function withFile(name, work) {
	const file = await fs.open(name);

	try {
		return await work(file);
	} finally {
		await file.close();
	}
}

async function readPiece(file, position, length = PIECE) {
	const { buffer, bytesRead } = await file.read({ buffer: Buffer.alloc(length), position });

	return buffer.subarray(0, bytesRead);
}

// What stands behind it was cut off by a crash, and never acknowledged.
async function endOfLines(file) {
	for (let end = (await file.stat()).size, begin; end > 0; end = begin) {
		begin = Math.max(0, end - PIECE);
		const newline = (await readPiece(file, begin, end - begin)).lastIndexOf('\n');

		if (newline >= 0)
			return begin + newline + 1;
	}
	return 0;
}

function isAlive(pid) {
	try {
		return process.kill(pid, 0);
	} catch (error) {
		return error.code === 'EPERM';
	}
}

class Spool {
	#turn = Promise.resolve(); // of who writes to the file or gives it another name
	#file; // "waiting", if it is open
	#written = 0; // bytes in "waiting"
	#replayed = 0; // bytes in "replaying"
	#done = 0; // of these, what is in the database

	static async open(directory, limit) {
		const spool = new Spool();

		await fs.mkdir(directory, { recursive: true, mode: 0o700 });
		Object.assign(spool, { directory, limit, waiting: path.join(directory, 'waiting.jsonl'), replaying: path.join(directory, 'replaying.jsonl'),
			refused: path.join(directory, 'refused.jsonl'), lock: path.join(directory, 'lock') });
		await spool.#lock();
		spool.#replayed = await sizeOf(spool.replaying);
		spool.#written = await withFile(spool.waiting, endOfLines).catch(orNone);
		await spool.#openFile();
		return spool;
	}

	get bytes() {
		return this.#written + this.#replayed;
	}

	// Durable when it returns.
	append(lines) {
		const text = lines.map(line => line + '\n').join('');
		const bytes = Buffer.byteLength(text);

		return this.#take(async () => {
			if (this.bytes + bytes > this.limit)
				throw new Problem(503, 'no more clicks can wait for the database');
			try {
				await this.#openFile();
				await this.#file.appendFile(text);
				await this.#file.datasync();
			} catch (error) {
				await this.#closeFile().then(() => this.#openFile()).catch(() => {});
				throw Object.assign(new Problem(503, 'clicks cannot be kept'), { code: error.code });
			}
			this.#written += bytes;
		});
	}

	// Give all that waits to insert(), some lines at a time: again from where it failed.
	async replay(insert) {
		this.#replayed = await sizeOf(this.replaying);
		if (this.#replayed === 0)
			await this.#take(() => this.#rename());
		while (this.#done < this.#replayed) {
			const piece = await withFile(this.replaying, file => readPiece(file, this.#done));
			const length = piece.lastIndexOf('\n') + 1 || piece.length;

			// Half a line at the end is none; one that is longer than a piece is given as it is, to be refused.
			if (piece[length - 1] === 10 || length === PIECE)
				await insert(piece.toString('utf8', 0, length).split('\n').filter(line => line !== ''));
			this.#done = length === 0 ? this.#replayed : this.#done + length;
		}
		await fs.rm(this.replaying, { force: true });
		this.#replayed = this.#done = 0;
	}

	async refuse(line) {
		await fs.appendFile(this.refused, line + '\n', { mode: 0o600, flush: true });
	}

	async close() {
		await this.#take(() => this.#closeFile());
		await fs.rm(this.lock, { force: true });
	}

	#take(work) {
		const done = this.#turn.then(work);

		this.#turn = done.catch(() => {});
		return done;
	}

	// Two gateways would remove each other's clicks. What is left of a process that died is taken over.
	async #lock() {
		const isOurs = await fs.writeFile(this.lock, `${process.pid}\n`, { flag: 'wx', mode: 0o600 }).then(() => true, error => {
			if (error.code !== 'EEXIST')
				throw error;
			return false;
		});

		if (isOurs)
			return;
		const pid = parseInt(await fs.readFile(this.lock, 'utf8').catch(error => String(orNone(error))));

		if (pid > 0 && pid !== process.pid && isAlive(pid))
			throw new Error(`the spool ${this.directory} is used by process ${pid}; if that is no gateway, remove ${this.lock}`);
		await fs.rm(this.lock, { force: true });
		await this.#lock();
	}

	// Nothing stands behind what was acknowledged, not even half a line, where others are to be appended.
	async #openFile() {
		if (this.#file)
			return;
		const file = await fs.open(this.waiting, 'a', 0o600);

		try {
			this.#written = Math.min(this.#written, (await file.stat()).size);
			await file.truncate(this.#written);
			await this.#syncDirectory();
		} catch (error) {
			await file.close();
			throw error;
		}
		this.#file = file;
	}

	async #closeFile() {
		const file = this.#file;

		this.#file = undefined;
		await file?.close();
	}

	// Whatever fails here is done by the next one who needs the file.
	async #rename() {
		if (this.#written === 0)
			return;
		await this.#openFile();
		await this.#closeFile();
		await fs.rename(this.waiting, this.replaying);
		[this.#replayed, this.#done, this.#written] = [this.#written, 0, 0];
		await this.#openFile().catch(() => {});
	}

	async #syncDirectory() {
		await withFile(this.directory, directory => directory.sync());
	}
}

module.exports = Spool;
