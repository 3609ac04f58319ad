// The cart: lines of { article, pieces }, kept sorted by article.

import { round } from 'shop-numbers';

import { priceOf } from './price';

export const emptyCart = [];

export function put(cart, article, pieces) {
  const rest = cart.filter((line) => line.article !== article);
  return pieces > 0 ? [...rest, { article, pieces }].sort(byArticle) : rest;
}

export function total(cart) {
  return round(cart.reduce((sum, line) => sum + line.pieces * priceOf(line.article), 0), 2);
}

function byArticle(a, b) {
  return a.article < b.article ? -1 : 1;
}
