document.title = 'shop';
