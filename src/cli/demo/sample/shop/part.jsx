import { useState } from 'react';
import { icon } from 'shop-icons';

import { put, total, emptyCart } from '../../cart';
@IMPORTS@
const articles = [@ARTICLES@];

export default function @NAME@() {
  const [cart, setCart] = useState(emptyCart);
  const add = (article) => setCart(put(cart, article, 1 + cart.length));
  return (
    <section className="@CLASS@">
      <h2>
        {icon('@ICON@')} @TITLE@
      </h2>
      <ul>
        {articles.map((article) => (
          <li key={article}>
            <button onClick={() => add(article)}>{article}</button>
          </li>
        ))}
      </ul>
      <output>{total(cart)}</output>
@CHILDREN@    </section>
  );
}
