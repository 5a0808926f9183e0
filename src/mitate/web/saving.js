// Decisions on their way to the disk: one after the other, kept until the server says that they are written.

const AGAIN = 3000; // milliseconds until a decision that could not be written is sent again

export class Saving {
  // written(change), refused(why, job), trouble(why or null): what the page does about it
  constructor({ written, refused, trouble }) {
    Object.assign(this, { written, refused, trouble });
    this.jobs = [];
    this.letters = new Map();
    this.busy = false;
    this.timer = 0;
    addEventListener("beforeunload", event => { if (this.jobs.length) event.preventDefault(); });
  }

  add(asked) {
    const id = [...crypto.getRandomValues(new Uint32Array(4))].map(n => n.toString(36)).join("-");
    this.jobs.push({ id, ...asked });
    this.note();
    this.send();
  }

  letterOf(number) { // what is on its way for an image, or ""
    return this.letters.get(number) ?? "";
  }

  note() {
    this.letters = new Map();
    for (const job of this.jobs) if (job.decision !== "undo") for (const number of job.numbers) this.letters.set(number, job.decision[0]);
  }

  async send() {
    if (this.busy) return;
    this.busy = true;
    clearTimeout(this.timer);
    while (this.jobs.length) {
      const job = this.jobs[0];
      let status = 0, told = {};
      try {
        const answer = await fetch("decide", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(job) });
        status = answer.status;
        told = await answer.json();
      } catch { status = 0; }
      if (status === 200) {
        this.jobs.shift();
        this.note();
        this.trouble(null);
        this.written(told, job);
      } else if (status >= 400 && status < 500) { // sending it again would change nothing
        this.jobs.shift();
        this.note();
        this.refused([told.error, told.fix].filter(Boolean).join(" "), job);
      } else {
        this.trouble(told.error ? [told.error, told.fix].filter(Boolean).join(" ") : null, this.jobs.length);
        this.timer = setTimeout(() => this.send(), AGAIN);
        break;
      }
    }
    this.busy = false;
  }
}
