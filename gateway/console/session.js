// What a tab knows: the key, and the users it has opened.
//
// The key is kept in the tab's session storage, so that a reload need not ask again. The ids of users stand in memory
// alone and addresses hold their numbers: neither storage nor the browser's history learns whom somebody looked at.

const KEY = "key";

export class Session {
  users = [];

  get key() {
    return sessionStorage.getItem(KEY) || "";
  }

  set key(key) {
    sessionStorage.setItem(KEY, key);
  }

  /** The id of the key, which is no secret; empty for a user token. */
  get keyId() {
    return this.key.match(/^ax_([a-z0-9]+)_/)?.[1] ?? "";
  }

  /** The number by which addresses name a user. */
  number(user) {
    if (!this.users.includes(user)) this.users.push(user);
    return this.users.indexOf(user) + 1;
  }

  user(number) {
    return this.users[number - 1];
  }

  end() {
    sessionStorage.removeItem(KEY);
    this.users = [];
  }
}
