import isNumber from 'is-number';

document.title = isNumber('7') ? 'shop' : '';
