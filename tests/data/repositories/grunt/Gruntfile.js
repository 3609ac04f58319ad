module.exports = (grunt) => {
  grunt.registerTask('build', () => grunt.file.write('dist/out.js', "document.title = 'shop';\n"));
};
