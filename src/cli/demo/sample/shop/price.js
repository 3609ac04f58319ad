// Prices follow from the article's name, so that the sample needs no server.

const BASE = 1.95;

export function priceOf(article) {
  const letters = [...article].reduce((sum, letter) => sum + letter.charCodeAt(0), 0);
  return BASE + (letters % 200) / 10;
}
