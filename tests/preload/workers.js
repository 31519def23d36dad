// SPDX-License-Identifier: MIT
// Four worker threads build objects and buffers, compress and hash them; the digests are printed in order.
'use strict';
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const crypto = require('crypto');
const zlib = require('zlib');

function work(seed, rounds) {
	const hash = crypto.createHash('sha256');
	let x = seed;
	const next = () => (x = (Math.imul(x, 1103515245) + 12345) & 0x7fffffff);
	for (let r = 0; r < rounds; r++) {
		const table = new Map();
		for (let i = 0; i < 5000; i++)
			table.set('key' + (next() % 3000), { n: i, list: new Array(next() % 20).fill(i), text: 'x'.repeat(next() % 60) });
		const text = Buffer.from(JSON.stringify([...table]));
		const packed = zlib.deflateSync(text, { level: 1 });
		if (!zlib.inflateSync(packed).equals(text))
			throw new Error('a buffer changed');
		const pieces = [];
		for (let i = 0; i < 200; i++)
			pieces.push(Buffer.alloc(next() % 20000, i & 255));
		hash.update(text).update(Buffer.concat(pieces));
	}
	return hash.digest('hex');
}

if (isMainThread) {
	const rounds = Number(process.argv[2]);
	const jobs = [1, 2, 3, 4].map((seed) => new Promise((resolve, reject) => {
		const worker = new Worker(__filename, { workerData: { seed, rounds } });
		worker.on('message', resolve);
		worker.on('error', reject);
	}));
	Promise.all(jobs).then((digests) => {
		console.log(digests.join('\n'));
		console.log(work(5, rounds));
	});
} else {
	parentPort.postMessage(work(workerData.seed, workerData.rounds));
}
